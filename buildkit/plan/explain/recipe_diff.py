"""What differs between two recipes of one layer: settings, steps, files and models. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from buildkit.plan.explain.causes import (
    Cause,
    FileAdded,
    FileChanged,
    FileRemoved,
    FormatChanged,
    ItemsChanged,
    KindChanged,
    LinkChanged,
    ModeChanged,
    ModelFileAdded,
    ModelFileChanged,
    ModelFileRemoved,
    MountAdded,
    MountRemoved,
    MountsReordered,
    NewLayer,
    SettingChanged,
)
from buildkit.plan.explain.find_causes import History, Places
from buildkit.plan.spec import Kind, PackFiles, PackModel, RunStep, Spec

_OF_SETTINGS = ("arch", "bytecode", "compression", "interpreter", "prefix", "python")
_DEFAULTS = {"compression": "zstd"}  # which recipes do not say
_TABLES = {Kind.ROOT: "root", Kind.IMAGE: "root", Kind.RUN: "run", Kind.FILES: "copy", Kind.MODEL: "models"}
_MODES = {"file": "file", "exec": "executable", "link": "link"}
_LONG = 40
_ABSENT = object()
_HEX = re.compile(r"[0-9a-f]{12}")
_SCRIPT = ["/bin/sh", "-eu", "-c"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One layer, with what is known of the past and of the checkout; ``old`` and ``new`` are its recipes."""

    spec: Spec
    history: History
    places: Places
    old: Mapping[str, Any] = field(default_factory=dict)
    new: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """The stage whose layer it is."""
        return self.spec.name.partition("/")[0]

    def key(self, key: str) -> str:
        """Where a key of the stage's file is."""
        return in_file(self.places.stage(self.stage), key)


def in_file(file: str, key: str) -> str:
    """``stages/base/stage.toml: root.suite``; empty where the file is not known."""
    return f"{file}: {key}" if file else ""


def in_settings(key: str) -> str:
    """Where a setting is."""
    return f"pyproject.toml: [tool.buildkit] {key}"


def compare(case: Case, before: str) -> Iterator[Cause]:
    """The causes for a layer whose recipe was ``before``; none where that is its recipe still."""
    old, new = json.loads(before), json.loads(case.spec.recipe)
    made = Case(spec=case.spec, history=case.history, places=case.places, old=old, new=new)
    if old.get("kind") != new["kind"]:
        yield KindChanged(before=str(old.get("kind")), after=new["kind"])
        return
    for part in sorted(old.keys() | new.keys(), key=lambda part: (part != "format", part)):
        if old.get(part, _ABSENT) != new.get(part, _ABSENT):
            yield from _compare_part(made, part)


def compare_new(case: Case) -> Iterator[Cause]:
    """The causes for a layer whose name the last build did not know."""
    kind = case.spec.kind
    new = json.loads(case.spec.recipe)
    if kind in (Kind.WHEELS, Kind.MODEL):  # a layer for what came in, or for what was elsewhere
        yield from compare(case, json.dumps({**new, "wheels" if kind is Kind.WHEELS else "files": []}))
    elif kind is Kind.PREFIX:  # its name is a setting
        others = (recipe for recipe in case.history.last.values() if json.loads(recipe).get("kind") == kind)
        yield from compare(case, next(others, case.spec.recipe))
    else:
        yield NewLayer(where=case.key(_TABLES[kind]))


def _compare_part(case: Case, part: str) -> tuple[Cause, ...]:
    from buildkit.plan.explain import pin_diff as comparepins

    compare: Callable[[Case], Iterator[Cause]] | None = (_PARTS | comparepins.PARTS).get(part)
    alike = type(case.old.get(part)) is type(case.new.get(part)) or part == "bytecode"
    try:
        found = tuple(dict.fromkeys(compare(case))) if compare and alike else ()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        found = ()  # a recipe of another format has another shape
    return found or (_setting(case, part),)


def _setting(case: Case, part: str) -> Cause:
    key, unsaid = part.replace("_", "-"), _DEFAULTS.get(part)
    before, after = case.old.get(part, unsaid), case.new.get(part, unsaid)
    if part in _OF_SETTINGS:
        return changed(key, before, after, where=in_settings(key))
    where = case.key(f"{_TABLES[case.spec.kind]}.{key}" if case.spec.kind in _TABLES else key)
    return changed(key, before, after, where=where, of=_step(case))


def changed(key: str, before: object, after: object, *, where: str, of: str = "") -> SettingChanged:
    """A setting with its values, where both are short."""
    words = short(before), short(after)
    said = words if all(words) else ("", "")
    return SettingChanged(key=key, before=said[0], after=said[1], where=where, of=of)


def short(value: object) -> str:
    """A value as the user wrote it; empty where it is long, or no word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, str | int) else ""
    return text if len(text) <= _LONG and text.isprintable() and not _HEX.search(text) else ""


def compare_items(key: str, old: Sequence[str], new: Sequence[str], *, where: str, of: str = "") -> ItemsChanged:
    """Two lists of words."""
    added = tuple(short(item) or "one" for item in new if item not in old)
    removed = tuple(short(item) or "one" for item in old if item not in new)
    return ItemsChanged(key=key, added=added, removed=removed, where=where, of=of)


def compare_env(old: Mapping[str, str], new: Mapping[str, str], *, where: str, of: str = "") -> Iterator[Cause]:
    """Two environments."""
    if old.keys() != new.keys():
        yield compare_items("env", sorted(old), sorted(new), where=where, of=of)
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield changed(f"env {name}", old[name], new[name], where=where, of=of)


def compare_files(old: Iterable[Sequence[str]], new: Iterable[Sequence[str]], tree: str) -> Iterator[Cause]:
    """Two listings (``[path, mode, hash or target]``) of the files below ``tree``."""
    before, after = ({path: (mode, content) for path, mode, content in rows} for rows in (old, new))
    for path in sorted(before.keys() | after.keys()):
        name = posixpath.normpath(posixpath.join(tree, path))
        if path not in after:
            yield FileRemoved(path=name, where=name)
        elif path not in before:
            yield FileAdded(path=name, where=name)
        elif before[path] != after[path]:
            yield _compare_file(name, before[path], after[path])


def _compare_file(name: str, old: tuple[str, str], new: tuple[str, str]) -> Cause:
    modes = old[0], new[0]
    if modes == ("link", "link"):
        return LinkChanged(path=name, before=old[1], after=new[1], where=name)
    if modes[0] != modes[1] and ("link" in modes or old[1] == new[1]):
        return ModeChanged(path=name, before=_MODES[modes[0]], after=_MODES[modes[1]], where=name)
    return FileChanged(path=name, where=name)


def _format(case: Case) -> Iterator[Cause]:
    yield FormatChanged(before=int(case.old["format"]), after=int(case.new["format"]))


def _items(part: str) -> Callable[[Case], Iterator[Cause]]:
    def compare(case: Case) -> Iterator[Cause]:
        yield compare_items(part, case.old[part], case.new[part], where=case.key(f"root.{part}"))

    return compare


def _users(case: Case) -> Iterator[Cause]:
    where = case.key("root.user")
    old, new = ({name: rest for name, *rest in rows} for rows in (case.old["users"], case.new["users"]))
    if list(old) != list(new):
        yield compare_items("users", list(old), list(new), where=where)
    for name in sorted(old.keys() & new.keys()):
        (*ids, home, shell), (*ids_now, home_now, shell_now) = old[name], new[name]
        rows = [("home", home, home_now), ("shell", shell, shell_now)]
        as_uid = len({*ids}) == len({*ids_now}) == 1  # the group follows the account
        rows += zip(("uid",) if as_uid else ("uid", "gid"), ids, ids_now, strict=False)
        for key, before, after in rows:
            if before != after:
                yield changed(key, before, after, where=where, of=f"user {name}")


def _step(case: Case) -> str:
    return f"step {case.spec.work.run.name}" if isinstance(case.spec.work, RunStep) else ""


def _env(case: Case) -> Iterator[Cause]:
    yield from compare_env(case.old["env"], case.new["env"], where=case.key("run.env"), of=_step(case))


def _command(case: Case) -> Iterator[Cause]:
    from buildkit.plan.explain.pin_diff import compare_apt_step

    old, new = case.old["command"], case.new["command"]
    if found := list(compare_apt_step(case, old, new)):
        yield from found
        return
    key = "script" if new[:3] == _SCRIPT else "command"
    before, after = (words[3] if words[:3] == _SCRIPT else " ".join(words) for words in (old, new))
    yield changed(key, before, after, where=case.key(f"run.{key}"), of=_step(case))


def _files(case: Case) -> Iterator[Cause]:
    work = case.spec.work
    if isinstance(work, PackFiles):
        yield from compare_files(case.old["files"], case.new["files"], work.tree.path)
    elif isinstance(work, PackModel):
        yield from _model_files(case, work)


def _model_files(case: Case, work: PackModel) -> Iterator[Cause]:
    """A large file has a layer of its own, so that one that grows or shrinks leaves a layer for another."""
    old, new = (dict(case.old["files"]), dict(case.new["files"]))
    recipes = map(json.loads, case.history.last.values())
    had = {row[0] for r in recipes if r.get("kind") == Kind.MODEL and r["target"] == work.target for row in r["files"]}
    has = {file.path for file in work.model.files}
    for path in sorted(old.keys() | new.keys()):
        where = case.places.model_file(case.stage, work.model.name, path)
        if path not in new and path not in has:
            yield ModelFileRemoved(model=work.model.name, path=path, where=where)
        elif path not in old and path not in had:
            yield ModelFileAdded(model=work.model.name, path=path, where=where)
        elif old.get(path) != new.get(path):
            yield ModelFileChanged(model=work.model.name, path=path, where=where)


def _mounts(case: Case) -> Iterator[Cause]:
    where = case.key("run.mount")
    trees = [tree.path for tree, _ in case.spec.work.mounts] if isinstance(case.spec.work, RunStep) else []
    old, new = (_by_target(mounts) for mounts in (case.old["mounts"], case.new["mounts"]))
    sources = dict(zip(new, trees, strict=True))
    found: list[Cause] = []
    for place in [*old, *(place for place in new if place not in old)]:
        if place not in new:
            found.append(MountRemoved(target=place[0], where=where))
        elif place not in old:
            found.append(MountAdded(target=place[0], source=sources[place], where=where))
        else:
            found += compare_files(old[place], new[place], sources[place])
    yield from found or [MountsReordered(where=where)]


def _by_target(mounts: Iterable[Sequence[Any]]) -> dict[tuple[str, int], Any]:
    """Listings by target, and which of the mounts there it is."""
    seen: Counter[str] = Counter()
    listings = {}
    for target, listing in mounts:
        listings[target, seen[target]] = listing
        seen[target] += 1
    return listings


_PARTS: dict[str, Callable[[Case], Iterator[Cause]]] = {
    "command": _command,
    "components": _items("components"),
    "env": _env,
    "exclude": _items("exclude"),
    "files": _files,
    "format": _format,
    "mounts": _mounts,
    "users": _users,
}
