"""Why a layer is built: the difference of two recipes, in the user's words."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from buildkit.plan.spec import Spec

_MOST = 3
_WORDS = {
    "prefix": "the prefix",
    "interpreter": "the interpreter",
    "python": "Python",
    "suite": "the suite",
    "variant": "the variant",
    "target": "the target folder",
    "format": "the packer's format",
}


def explain_change(spec: Spec, last: Mapping[str, str]) -> str:
    """One line: ``onnxruntime 1.31.1 → 1.32.0``, ``main.py changed``, ``first build``; never a hash alone.

    ``last`` maps layer names of the last build to their recipes.
    """
    before = last.get(spec.name)
    if before is None:
        return "new layer" if last else "first build"
    changes = list(_changes(json.loads(before), json.loads(spec.recipe)))
    if not changes:
        return "not in the cache any more"
    more = f" and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
    return ", ".join(changes[:_MOST]) + more


def _changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key == "wheels":
            yield from _wheels(before or [], after or [])
        elif key == "packages":
            yield from _packages(before or [], after or [])
        elif key == "bytecode":
            yield from _bytecode(before, after)
        elif key == "files":
            yield from _files(before or [], after or [])
        elif key == "mounts":
            yield from list(_files(_mounted(before or []), _mounted(after or []))) or ["mounts in another order"]
        elif key == "parent":
            yield "the root below changed"
        elif isinstance(before, str | int) and isinstance(after, str | int) and key in _WORDS:
            yield f"{_WORDS[key]} {before} → {after}"
        else:
            yield f"`{key}` changed"


def _wheels(old: list[dict[str, str]], new: list[dict[str, str]]) -> Iterator[str]:
    before = {wheel["name"]: wheel for wheel in old}
    after = {wheel["name"]: wheel for wheel in new}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"{name} removed"
        elif name not in before:
            yield f"{name} {after[name]['version']} added"
        elif before[name] != after[name]:
            versions = before[name]["version"], after[name]["version"]
            if versions[0] != versions[1]:
                yield f"{name} {versions[0]} → {versions[1]}"
            else:
                yield f"{name} compiled anew" if "compiled" in after[name] else f"{name}: another file"


def _bytecode(old: list[str] | None, new: list[str] | None) -> Iterator[str]:
    if old and new:
        yield from list(_packages(old, new)) or ["the interpreter changed"]
    else:
        yield "bytecode switched"


def _packages(old: list[str], new: list[str]) -> Iterator[str]:
    before, after = (dict(pin.split("=", 1) for pin in pins if "=" in pin) for pins in (old, new))
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"{name} removed"
        elif name not in before:
            yield f"{name} {after[name]} added"
        elif before[name] != after[name]:
            yield f"{name} {before[name]} → {after[name]}"


def _mounted(mounts: list[tuple[str, list[list[str]]]]) -> list[list[str]]:
    """Files by where a step sees them."""
    return [
        [posixpath.normpath(posixpath.join(target, path)), *rest]
        for target, listing in mounts
        for path, *rest in listing
    ]


def _files(old: list[list[str]], new: list[list[str]]) -> Iterator[str]:
    before, after = ({row[0]: row[1:] for row in rows} for rows in (old, new))
    for path in sorted(before.keys() | after.keys()):
        name = "the file" if path == "." else path
        if path not in after:
            yield f"{name} removed"
        elif path not in before:
            yield f"{name} added"
        elif before[path] != after[path]:
            yield f"{name} changed"
