"""Compare the wheels of a layer, and the sources and builders of those that are compiled here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from buildkit.plan.explain.causes import Cause, CauseKind
from buildkit.plan.explain.comparison import LayerComparison, in_file, in_settings, stage_of
from buildkit.plan.explain.root_diff import compare_layers
from buildkit.plan.explain.value_diff import changed_format, changed_setting, compare_env, compare_files
from buildkit.plan.spec import Compile, PackWheels, is_readable_format

_OWN_CAUSES = {"builder", "env", "format", "sdist", "tree"}  # parts of a compile recipe that are compared in detail


def compare_wheels(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the wheels of a layer."""
    old, new = ({wheel["name"]: wheel for wheel in recipe["wheels"]} for recipe in (layer.old, layer.new))
    work = layer.spec.work
    paths = {wheel.name: wheel.path for wheel in work.wheels} if isinstance(work, PackWheels) else {}
    for name in sorted(old.keys() | new.keys()):
        where = layer.locations.pin(layer.stage, name, paths.get(name, ""))
        if name not in new:
            yield _find_where_it_went(layer, name, old[name]["version"], where)
        elif name not in old:
            yield from _find_where_it_was(layer, name, new[name]["version"], where)
        elif old[name] != new[name]:
            yield from _compare_wheel(layer, old[name], new[name], where)


def _find_where_it_went(layer: LayerComparison, name: str, version: str, where: str) -> Cause:
    target = layer.locations.wheel_layer(layer.stage, name)
    if target:
        return _moved(name, version, layer.spec.name, target)
    return Cause(CauseKind.PIN_REMOVED, name=name, version=version, where=where)


def _find_where_it_was(layer: LayerComparison, name: str, version: str, where: str) -> Iterator[Cause]:
    for source, recipe in _last_wheel_recipes(layer):
        for wheel in recipe["wheels"]:
            if wheel["name"] == name:
                if wheel["version"] != version:
                    yield Cause(CauseKind.PIN_CHANGED, name=name, before=wheel["version"], after=version, where=where)
                yield _moved(name, version, source, layer.spec.name)
                return
    yield Cause(CauseKind.PIN_ADDED, name=name, version=version, where=where)


def _last_wheel_recipes(layer: LayerComparison) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the layers of the same stage in the last build that held wheels, with their recipes."""
    for name, text in layer.history.last.items():
        if name.startswith(f"{layer.stage}/"):
            recipe = json.loads(text)
            if "wheels" in recipe and is_readable_format(recipe.get("format")):
                yield name, recipe


def _moved(name: str, version: str, before: str, after: str) -> Cause:
    alone = any(layer.rpartition("/")[2] == name for layer in (before, after))
    where = in_settings("heavy" if alone else "bins")
    return Cause(CauseKind.WHEEL_MOVED, name=name, version=version, before=before, after=after, where=where)


def _compare_wheel(
    layer: LayerComparison, old: Mapping[str, str], new: Mapping[str, str], where: str
) -> Iterator[Cause]:
    name, version = new["name"], new["version"]
    if old["version"] != version:
        yield Cause(CauseKind.PIN_CHANGED, name=name, before=old["version"], after=version, where=where)
    elif old.get("format") != new.get("format"):
        yield changed_format(old.get("format", 1), int(new.get("format", 1)))
    elif "compiled" in old and "compiled" in new:
        causes: list[Cause | None] = [*_compare_compiled(layer, name, old["compiled"], where)]
        for because in causes or [None]:
            cause_location = (because and because.where) or where
            yield Cause(CauseKind.COMPILED_ANEW, name=name, version=version, because=because, where=cause_location)
    else:
        before, after = ("compiled here" if "compiled" in wheel else "a wheel" for wheel in (old, new))
        yield Cause(CauseKind.ARTIFACT_CHANGED, name=name, version=version, before=before, after=after, where=where)


def _compare_compiled(layer: LayerComparison, name: str, key: str, where: str) -> Iterator[Cause]:
    """Yield the causes for compiling a wheel again; none if its earlier recipe is no longer known."""
    past = layer.history.find(key)
    if past is None:
        return
    work = layer.spec.work
    items = work.compiled if isinstance(work, PackWheels) else ()
    item = next(item for item in items if item.artifact.name == name)
    old, new = json.loads(past.recipe), json.loads(item.recipe)
    if old.get("kind") == new["kind"] and is_readable_format(old["format"]):
        yield from _compare_source(item, old, new, where)
        yield from _compare_builder(layer, old, new)
        for part in sorted((old.keys() | new.keys()) - _OWN_CAUSES):
            if old.get(part) != new.get(part):
                yield changed_setting(part, old.get(part), new.get(part), where=in_settings(part))
    if old["format"] != new["format"]:
        yield changed_format(old["format"], new["format"])


def _compare_source(item: Compile, old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[Cause]:
    if "tree" in old and item.tree:
        yield from compare_files(old["tree"], new["tree"], item.tree.path)
    elif old.get("sdist") != new.get("sdist"):
        yield Cause(CauseKind.SOURCE_CHANGED, name=item.artifact.file or item.artifact.path, where=where)


def _compare_builder(layer: LayerComparison, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Cause]:
    builder = layer.locations.builder()
    stage = stage_of(builder[-1].name) if builder else ""
    file = layer.locations.stage(stage)
    if old["builder"] != new["builder"]:
        causes = [cause for _, cause in compare_layers(layer, old["builder"], builder)]
        yield from filter(lambda cause: not _repeats(cause, causes), causes)
        if not causes:
            yield Cause(CauseKind.BUILDER_CHANGED, stage=stage, where=file)
    yield from compare_env(old["env"], new["env"], where=in_file(file, "config.env"), of=f"the stage {stage}")


def _repeats(cause: Cause, causes: list[Cause]) -> bool:
    """Return whether a cause only reports that the interpreter changed because of another of the causes."""
    return cause.kind is CauseKind.INTERPRETER_CHANGED and cause.because in causes
