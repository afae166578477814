"""The release of the images' Python (``3.13.5``): of its own lock, or of the roots, as Debian's apt locks have it.

Markers and Requires-Python may depend on it, so requirements are resolved for it and their locks name it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from buildkit.declare.graph import Graph
from buildkit.declare.target import Target
from buildkit.locks.apt_lock import apt_lock_path
from buildkit.locks.freshness import find_release
from buildkit.locks.python_lock import PYTHON_LOCK, find_locked_release
from buildkit.locks.requirement_inputs import Read

_DEBIANS_PYTHON = "/usr/bin/python3"

Roots = tuple[tuple[str, ...], ...]
"""The apt lists of each of several roots; a registry image has none."""


def find_roots(graph: Graph) -> dict[str, Roots]:
    """Return, by requirements lock, the roots of all stages whose image has its wheels."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for name in graph.stages:
        resolved = graph.resolve(name)
        if not resolved.chain:
            continue  # an image of wheels alone, to be included in others
        lists = tuple(
            file for link in resolved.chain for file in (link.debian.packages if link.debian else "", link.apt) if file
        )
        for lock in (lock for part in resolved.parts for lock in part.wheels):
            found.setdefault(lock, {})[lists] = None
    return {lock: tuple(roots) for lock, roots in found.items()}


def find_root_release(roots: Roots, read: Read, target: Target) -> str:
    """Return the release of Python that ``target`` has on all ``roots``; the empty string if it is not known.

    That is the declared one, if a release is declared. ``read`` gives the texts of apt locks. Raises what it raises.
    """
    if target.is_exact:
        return target.python
    if target.standalone:
        return find_locked_release(read(PYTHON_LOCK))
    releases = {_release_in(lists, read, target) for lists in roots}
    return releases.pop() if len(releases) == 1 else ""


def find_releases_of(apt_list: str, read: Read, target: Target) -> tuple[str, ...]:
    """Return the releases of the target's Python in the lock of ``apt_list``; none if it is not Debian's."""
    if not target.interpreter.startswith(_DEBIANS_PYTHON):
        return ()
    line = re.compile(rf"^python{re.escape(target.minor)}(?:-minimal)?=(?:\d+:)?(\d+\.\d+\.\d+)", re.MULTILINE)
    return tuple(dict.fromkeys(line.findall(read(apt_lock_path(apt_list, target.lock_arch)) or "")))


def target_of(lock: str, target: Target) -> Target:
    """Return ``target`` with the release of Python that the text of a requirements lock names, if it names one."""
    release = find_release(lock)
    return replace(target, python=release) if release else target


def _release_in(lists: tuple[str, ...], read: Read, target: Target) -> str:
    found = [release for file in lists for release in find_releases_of(file, read, target)]
    return found[-1] if found else ""
