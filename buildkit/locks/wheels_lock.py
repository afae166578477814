"""Wheels locks (``requirements/NAME.wheels.toml``): for one target, the distribution file of every pin.

A requirements lock allows every file of a version; a wheels lock chooses the one that the image gets, so that the key
of every layer follows from the checkout alone.
"""

from __future__ import annotations

from typing import Any

from buildkit.declare.schema import format_value
from buildkit.declare.target import Target
from buildkit.declare.toml import parse_toml, render_toml
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.freshness import read_inputs, render_header
from buildkit.locks.git_source import is_git, parse_git_source
from buildkit.locks.pins import Artifact

_MOST_SIZE = 1 << 50
_KEYS = frozenset(("name", "version", "file", "sha256", "size", "path", "place", "unseen"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelsLock:
    """A wheels lock: the hash of its inputs, its target, and the files in the order of the pins."""

    inputs: FileHash
    python: str
    glibc: str
    arch: str
    artifacts: tuple[Artifact, ...]


_SUFFIX = ".wheels.toml"


def wheels_lock_path(lock: str, arch: str = "") -> str:
    """Return ``requirements/api.wheels.toml`` for ``requirements/api.txt`` (or ``.in``), of another tool's lock its id.

    ``arch`` is `Target.lock_arch`; with it, the name is ``requirements/api.aarch64.wheels.toml``.
    """
    stem = lock.removesuffix(_SUFFIX) if lock.endswith(_SUFFIX) else lock.rpartition(".")[0]
    return f"{stem}.{arch}{_SUFFIX}" if arch else f"{stem}{_SUFFIX}"


def make_wheels_lock(inputs: FileHash, target: Target, artifacts: tuple[Artifact, ...]) -> WheelsLock:
    """Return a new lock for ``target``."""
    return WheelsLock(
        inputs=inputs, python=target.python, glibc=target.glibc, arch=target.arch, artifacts=artifacts
    )  # fmt: skip


def parse_wheels_lock(text: str, file: str) -> WheelsLock:
    """Parse a wheels lock. Raises DefinitionError with every problem found."""
    table = parse_toml(text, file, "run: nox -s lock")
    target, entries = table.get("target", {}), table.get("artifact", [])
    problems: list[Problem] = []
    for key, value, kind in (("target", target, dict), ("artifact", entries, list)):
        if not isinstance(value, kind):
            raise DefinitionError.of([Problem(file=file, key=key, what="must be tables", hint="run: nox -s lock")])
    inputs = read_inputs(text, file, problems)
    problems += [
        Problem(file=file, key=f"target.{key}", what="must be a string", hint="run: nox -s lock")
        for key in ("python", "glibc", "arch")
        if not isinstance(target.get(key), str)
    ]
    artifacts = [_parse_artifact(entry, file, problems) for entry in entries]
    if problems or inputs is None:
        raise DefinitionError.of(problems)
    return WheelsLock(
        inputs=inputs,
        python=target["python"],
        glibc=target["glibc"],
        arch=target["arch"],
        artifacts=tuple(artifact for artifact in artifacts if artifact is not None),
    )


def render_wheels_lock(lock: WheelsLock, release: str = "") -> str:
    """Render ``lock``; equal locks give equal bytes. ``release`` is that of the root's Python, if it counts."""
    table = {
        "target": {"python": lock.python, "glibc": lock.glibc, "arch": lock.arch},
        "artifact": [artifact_table(artifact) for artifact in lock.artifacts],
    }
    header = ("Made by `nox -s lock`: which file of every pin the image gets.",)
    return render_header(lock.inputs, release) + render_toml(table, header=header)


def artifact_table(artifact: Artifact) -> dict[str, Any]:
    """Return the TOML table of ``artifact``."""
    named = {"name": artifact.name, "version": artifact.version}
    if artifact.path:
        return {**named, "path": artifact.path}
    digits = artifact.sha256.hex if artifact.sha256 else ""
    place = {"place": artifact.place} if artifact.place else {}
    unseen = {"unseen": True} if artifact.unseen else {}
    return {**named, "file": artifact.file, "sha256": digits, "size": artifact.size, **place, **unseen}


def parse_artifact(entry: dict[str, Any]) -> Artifact:
    """Parse the TOML table of an artifact. Raises ValueError, KeyError or TypeError."""
    if unknown := entry.keys() - _KEYS:
        raise ValueError(f"unknown key `{min(unknown)}`")
    name, version = _text(entry, "name"), _text(entry, "version")
    if "path" in entry:
        return Artifact(name=name, version=version, path=_text(entry, "path"))
    size, file = entry["size"], _text(entry, "file")
    if type(size) is not int or not 0 <= size <= _MOST_SIZE:
        raise ValueError("`size` must be a number of bytes")
    if not file or "/" in file or file in {".", ".."}:
        raise ValueError("`file` must be a file name")
    sha256, place = FileHash(_text(entry, "sha256")), _text(entry, "place") if "place" in entry else ""
    if is_git(place) and (file.endswith(".whl") or str(parse_git_source(place)) != place):
        raise ValueError("`place` must be a commit, and its file no wheel")
    unseen = entry.get("unseen", False)
    if type(unseen) is not bool:
        raise TypeError("`unseen` must be true or false")
    return Artifact(name=name, version=version, file=file, sha256=sha256, size=size, place=place, unseen=unseen)


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str):
        raise TypeError(f"`{key}` must be a string")
    return value


def _parse_artifact(entry: object, file: str, problems: list[Problem]) -> Artifact | None:
    if not isinstance(entry, dict):
        problems.append(Problem(file=file, key="artifact", what="must be tables", hint="run: nox -s lock"))
        return None
    try:
        return parse_artifact(entry)
    except KeyError as error:
        what = f"`{error.args[0]}` is missing"
    except (ValueError, TypeError) as error:
        what = str(error)
    key = f"artifact {format_value(entry.get('name', '?'))}"
    problems.append(Problem(file=file, key=key, what=what, hint="run: nox -s lock"))
    return None
