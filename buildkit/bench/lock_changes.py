"""Edits of locks: replace a pin, or add one. Text to text, exactly as `nox -s lock` would write it."""

from __future__ import annotations

import re
from dataclasses import replace

from buildkit.declare.target import Target
from buildkit.locks.freshness import wheels_inputs
from buildkit.locks.pins import Artifact
from buildkit.locks.wheels_lock import WheelsLock, render_wheels_lock


def replace_pin(lock: str, artifact: Artifact) -> str:
    """Return a requirements lock with another version of one project, pinned to this one file's hash."""
    block = re.compile(rf"^{re.escape(artifact.name)}(?:\[[^]]*\])?==.*?(?<!\\)$\n?", re.MULTILINE | re.DOTALL)
    changed, count = block.subn(lambda _found: render_pin(artifact), lock, count=1)
    if not count:
        raise ValueError(f"{artifact.name} is not in the lock")
    return changed


def add_pin(lock: str, artifact: Artifact) -> str:
    """Return a requirements lock with one more project."""
    return f"{lock.rstrip()}\n{render_pin(artifact)}"


def render_pin(artifact: Artifact) -> str:
    """Return the line, with its newline, that pins one file."""
    digits = artifact.sha256.hex if artifact.sha256 else ""
    return f"{artifact.name}=={artifact.version} \\\n    --hash=sha256:{digits}\n"


def change_wheels(old: WheelsLock, lock: str, artifact: Artifact, target: Target) -> str:
    """Return the wheels lock that matches the changed requirements lock."""
    names = [existing.name for existing in old.artifacts]
    if artifact.name in names:
        artifacts = tuple(artifact if existing.name == artifact.name else existing for existing in old.artifacts)
    else:
        artifacts = (*old.artifacts, artifact)
    return render_wheels_lock(replace(old, inputs=wheels_inputs(lock, target), artifacts=artifacts))
