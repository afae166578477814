"""Short descriptions of the changes from one lock to the next."""

from __future__ import annotations

import re

_PINNED = re.compile(r"^([A-Za-z0-9][\w.+-]*?)(?:==|=| @ git\+\S+@)([^\s;\\#]+)", re.MULTILINE)
_NAMED = re.compile(r'^name = "([^"]+)"\n(?:version = "|digest = "(?=sha256:))((?:sha256:\w{12}|[^"]*))', re.MULTILINE)
_NONE = "no version"


def describe_changes(old: str | None, new: str) -> tuple[str, ...]:
    """Return ``name 1 → 2``, ``+ name 2`` or ``- name`` for every pin that differs, sorted by name."""
    if old is None:
        return ("new",)
    before, after = _versions(old), _versions(new)
    lines = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None:
            lines.append(f"+ {name} {now}".rstrip())
        elif now is None:
            lines.append(f"- {name}")
        elif was != now:
            lines.append(f"{name} {was or _NONE} → {now or _NONE}")
    return tuple(lines) or ("the same versions",)


def _versions(text: str) -> dict[str, str]:
    pattern = _NAMED if "\nname = " in text else _PINNED
    pins: dict[str, list[str]] = {}
    for name, version in pattern.findall(text):
        pins.setdefault(name, []).append(version)
    return {name: " | ".join(versions) for name, versions in pins.items()}
