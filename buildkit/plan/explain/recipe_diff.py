"""Compare the recipe of a layer with that of the last build, part by part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from buildkit.plan.explain import definition_diff, root_diff, wheel_diff
from buildkit.plan.explain.causes import Cause, CauseKind
from buildkit.plan.explain.comparison import History, LayerComparison, SourceLocations, in_file, in_settings, stage_of
from buildkit.plan.explain.recipe_shape import has_known_shape
from buildkit.plan.explain.value_diff import changed_format, changed_setting
from buildkit.plan.spec import Kind, Spec, is_readable_format

_SETTINGS = ("arch", "bytecode", "compression", "interpreter", "prefix", "python", "site_packages")
_DEFAULTS = {"compression": "zstd", "site_packages": "own"}  # recipes leave these values out
_TABLES = {
    Kind.ROOT: "root",
    Kind.IMAGE: "root",
    Kind.CONTAINERFILE: "root",
    Kind.RUN: "run",
    Kind.FILES: "copy",
    Kind.MODEL: "models",
    Kind.LINKS: "models",
    Kind.FRAMEWORK: "framework",
    Kind.SERVING: "serve",
    Kind.SBOM: "sbom",
}
_ABSENT = object()


def compare_recipes(spec: Spec, before: str | None, history: History, locations: SourceLocations) -> Iterator[Cause]:
    """Return the causes for a layer whose recipe was ``before``; none if that is still its recipe.

    ``before`` is None if the last build had no layer of that name.
    """
    if before is not None:
        return _compare(spec, before, history, locations)
    return _compare_new(spec, history, locations)


def _compare(spec: Spec, before: str, history: History, locations: SourceLocations) -> Iterator[Cause]:
    old, new = json.loads(before), json.loads(spec.recipe)
    if old.get("kind") != new["kind"]:
        yield Cause(CauseKind.KIND_CHANGED, before=str(old.get("kind")), after=new["kind"])
        return
    old_format, new_format = old.pop("format", None), new.pop("format")
    if old_format != new_format:
        yield changed_format(old_format, new_format)
    if not is_readable_format(old_format):
        return
    layer = LayerComparison(
        spec=spec, history=history, locations=locations, old=old, new=new,
        compare_other=partial(compare_recipes, history=history, locations=locations),
    )  # fmt: skip
    for part in sorted(old.keys() | new.keys()):
        if old.get(part, _ABSENT) != new.get(part, _ABSENT):
            yield from _compare_part(layer, part)


def _compare_new(spec: Spec, history: History, locations: SourceLocations) -> Iterator[Cause]:
    """Return the causes for a layer whose name the last build did not know."""
    kind = spec.kind
    new = json.loads(spec.recipe)
    if kind in (Kind.WHEELS, Kind.MODEL):  # its content is new, or was in another layer
        empty = json.dumps({**new, "wheels" if kind is Kind.WHEELS else "files": []})
        yield from _compare(spec, empty, history, locations)
    elif kind is Kind.PYTHON:
        yield Cause(CauseKind.NEW_LAYER, where=in_settings("interpreter"))
    elif kind is Kind.PREFIX:  # its name is a setting
        others = (recipe for recipe in history.last.values() if json.loads(recipe).get("kind") == kind)
        yield from _compare(spec, next(others, spec.recipe), history, locations)
    else:
        where = in_file(locations.stage(stage_of(spec.name)), _TABLES[kind])
        yield Cause(CauseKind.NEW_LAYER, where=where)


def _compare_part(layer: LayerComparison, part: str) -> tuple[Cause, ...]:
    compare = _PARTS.get(part)
    recipes, kind = (layer.old, layer.new), layer.spec.kind
    causes: tuple[Cause, ...] = ()
    if kind is Kind.PYTHON and part not in _SETTINGS:  # all of it comes from one lock
        return (root_diff.changed_python(layer),)
    if compare and all(part in recipe and has_known_shape(kind, part, recipe[part]) for recipe in recipes):
        causes = tuple(dict.fromkeys(compare(layer)))
    return causes or (_setting(layer, part),)


def _setting(layer: LayerComparison, part: str) -> Cause:
    key, default = part.replace("_", "-"), _DEFAULTS.get(part)
    before, after = layer.old.get(part, default), layer.new.get(part, default)
    if part in _SETTINGS:
        return changed_setting(key, before, after, where=in_settings(key))
    table = _TABLES.get(layer.spec.kind)
    where = layer.locate_key(f"{table}.{key}" if table else key)
    return changed_setting(key, before, after, where=where, of=layer.step)


_PARTS: Mapping[str, Callable[[LayerComparison], Iterator[Cause]]] = {
    "bytecode": root_diff.compare_bytecode,
    "command": definition_diff.compare_command,
    "context": definition_diff.compare_context,
    "components": partial(definition_diff.compare_root_items, part="components"),
    "env": definition_diff.compare_step_env,
    "exclude": partial(definition_diff.compare_root_items, part="exclude"),
    "files": definition_diff.compare_layer_files,
    "hub": definition_diff.compare_snapshot,
    "image": root_diff.compare_image,
    "layers": definition_diff.compare_listed_layers,
    "models": definition_diff.compare_listed_models,
    "module": definition_diff.compare_module,
    "mounts": definition_diff.compare_mounts,
    "packages": root_diff.compare_root_packages,
    "parent": root_diff.compare_parent,
    "settings": definition_diff.compare_framework,
    "users": definition_diff.compare_users,
    "wheels": wheel_diff.compare_wheels,
}
