"""Causes from two values of one part of a recipe: settings, lists, environments and listings of files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from buildkit.plan.explain.causes import Cause, CauseKind

_LONGEST = 40
_HEX = re.compile(r"[0-9a-f]{12}")
_MODES = {"file": "file", "exec": "executable", "link": "link"}


def changed_setting(key: str, before: object, after: object, *, where: str, of: str = "") -> Cause:
    """Return the cause for a setting, with its values if both are short."""
    old, new = format_short(before), format_short(after)
    if not (old and new):
        old = new = ""
    return Cause(CauseKind.SETTING_CHANGED, key=key, before=old, after=new, where=where, of=of)


def changed_format(before: object, after: int) -> Cause:
    """Return the cause for a recipe of another format."""
    old = before if isinstance(before, int) else format_short(before) or "?"
    return Cause(CauseKind.FORMAT_CHANGED, before=old, after=after)


def format_short(value: object) -> str:
    """Return a value as the user wrote it; empty if it is long, holds a hash, or is not a word or number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, str | int) else ""
    return text if len(text) <= _LONGEST and text.isprintable() and not _HEX.search(text) else ""


def compare_items(key: str, old: Sequence[str], new: Sequence[str], *, where: str, of: str = "") -> Cause:
    """Compare two lists of words."""
    added = tuple(format_short(item) or "one" for item in new if item not in old)
    removed = tuple(format_short(item) or "one" for item in old if item not in new)
    return Cause(CauseKind.ITEMS_CHANGED, key=key, added=added, removed=removed, where=where, of=of)


def compare_env(old: Mapping[str, str], new: Mapping[str, str], *, where: str, of: str = "") -> Iterator[Cause]:
    """Compare two environments."""
    if old.keys() != new.keys():
        yield compare_items("env", sorted(old), sorted(new), where=where, of=of)
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield changed_setting(f"env {name}", old[name], new[name], where=where, of=of)


def compare_files(old: Iterable[Sequence[str]], new: Iterable[Sequence[str]], tree: str) -> Iterator[Cause]:
    """Compare two listings (``[path, mode, hash or target]``) of the files below ``tree``."""
    before, after = ({path: (mode, content) for path, mode, content in rows} for rows in (old, new))
    for path in sorted(before.keys() | after.keys()):
        name = posixpath.normpath(posixpath.join(tree, path))
        if path not in after:
            yield Cause(CauseKind.FILE_REMOVED, path=name, where=name)
        elif path not in before:
            yield Cause(CauseKind.FILE_ADDED, path=name, where=name)
        elif before[path] != after[path]:
            yield _compare_file(name, before[path], after[path])


def _compare_file(name: str, old: tuple[str, str], new: tuple[str, str]) -> Cause:
    (old_mode, old_content), (new_mode, new_content) = old, new
    if old_mode == new_mode == "link":
        return Cause(CauseKind.LINK_CHANGED, path=name, before=old_content, after=new_content, where=name)
    if old_mode != new_mode and ("link" in (old_mode, new_mode) or old_content == new_content):
        return Cause(CauseKind.MODE_CHANGED, path=name, before=_MODES[old_mode], after=_MODES[new_mode], where=name)
    return Cause(CauseKind.FILE_CHANGED, path=name, where=name)
