"""Compare the parts of recipes that pin roots: Debian packages, interpreters, images and the layers below a step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from buildkit.locks.python_lock import PYTHON_LOCK
from buildkit.plan.explain.causes import Cause, CauseKind
from buildkit.plan.explain.comparison import LayerComparison, in_file, in_settings, stage_of
from buildkit.plan.explain.value_diff import changed_setting
from buildkit.plan.roots import find_apt_pins
from buildkit.plan.spec import STANDALONE_BUILD, Kind, MakeRoot, RunStep, Spec

_PYTHON = re.compile(r"(?:lib)?python3(?:\.\d+)?(?:-minimal|-stdlib|t64)?")
_MINOR = re.compile(r"3\.\d+")


def compare_layers(layer: LayerComparison, keys: Sequence[str], specs: Sequence[Spec]) -> Iterator[tuple[str, Cause]]:
    """Compare several layers with those that had ``keys``: the name of each that changed, and why.

    Causes that only repeat a change below are left out. If one of the earlier layers is no longer known, a layer
    without a counterpart is not taken for new.
    """
    current = {spec.key.hex for spec in specs}
    pasts = [layer.history.find(key) for key in keys if key not in current]
    gone = {past.name: past.recipe for past in pasts if past}
    for spec in specs:
        if spec.key.hex in keys:
            continue
        before = gone.pop(spec.name, None) or (_pop_image(gone) if spec.kind is Kind.IMAGE else None)
        if before is None and None in pasts:
            continue
        if before is None and isinstance(spec.work, RunStep):
            where = in_file(layer.locations.stage(stage_of(spec.name)), "run")
            causes = iter([Cause(CauseKind.STEP_ADDED, step=spec.work.run.name, where=where)])
        else:
            causes = layer.compare_other(spec, before)
        yield from ((spec.name, cause) for cause in causes if cause.kind is not CauseKind.ROOT_BELOW_CHANGED)
    for name in gone:
        where = in_file(layer.locations.stage(stage_of(name)), "run")
        yield name, Cause(CauseKind.STEP_REMOVED, step=name.partition("/")[2], where=where)


def _pop_image(gone: dict[str, str]) -> str | None:
    """Take the recipe of the image that the root was; locking pulls one under another name than a build."""
    names = [name for name, recipe in gone.items() if json.loads(recipe)["kind"] == Kind.IMAGE]
    return gone.pop(names[0]) if names else None


def compare_parent(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the layers that a step runs on."""
    chain = layer.spec.work.chain if isinstance(layer.spec.work, RunStep) else ()
    keys: list[str] = []
    key: str = layer.old["parent"]
    while key and key not in keys:
        keys.insert(0, key)
        past = layer.history.find(key)
        key = json.loads(past.recipe).get("parent", "") if past else ""
    causes = list(compare_layers(layer, keys, chain))
    for name, because in causes:
        yield Cause(CauseKind.ROOT_BELOW_CHANGED, layer=name, because=because, where=because.where)
    if not causes and chain:
        yield Cause(CauseKind.ROOT_BELOW_CHANGED, layer=chain[-1].name)


def compare_root_packages(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the packages of a Debian root."""
    work = layer.spec.work
    lock = work.debian.packages if isinstance(work, MakeRoot) else ""
    yield from _compare_packages(layer, layer.old["packages"], layer.new["packages"], layer.stage, lock)


def compare_apt_step(layer: LayerComparison, old: Sequence[str], new: Sequence[str]) -> Iterator[Cause]:
    """Compare two commands that install the packages of ``[apt]``; yield nothing if one of them does not."""
    old_pins, new_pins = find_apt_pins(old), find_apt_pins(new)
    work = layer.spec.work
    lock = work.run.name.removeprefix("apt ") if isinstance(work, RunStep) else ""
    if old_pins is not None and new_pins is not None:
        yield from _compare_packages(layer, old_pins, new_pins, layer.stage, lock)


def compare_bytecode(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the interpreters that compile bytecode, or whether any does."""
    old, new = layer.old["bytecode"], layer.new["bytecode"]
    if layer.spec.kind is Kind.ROOT or not (old and new):
        yield changed_setting("bytecode", bool(old), bool(new), where=in_settings("bytecode"))
        return
    if any(pin.startswith(f"{STANDALONE_BUILD}=") for pin in (*old, *new)):
        yield _changed_standalone(_split(old).get(STANDALONE_BUILD, ""), _split(new).get(STANDALONE_BUILD, ""))
        return
    specs = layer.locations.compiler()
    stage = stage_of(specs[0].name) if specs else ""
    first = specs[0].work if specs else None
    lock = first.debian.packages if isinstance(first, MakeRoot) else ""
    causes: list[Cause] = []
    if all("=" in pin for pin in (*old, *new)):
        causes += _compare_packages(layer, old, new, stage, lock)
    elif not any("=" in pin for pin in (*old, *new)):
        for _, because in compare_layers(layer, old, specs):
            causes.append(_changed_interpreter(stage, because.where, because=because))
    yield from causes or [_changed_interpreter(stage, in_settings("bytecode-root"))]


def changed_python(layer: LayerComparison) -> Cause:
    """Return the cause for layers of the images' own Python: another release, or another archive of it."""
    before, after = (str(recipe.get("release", "")) for recipe in (layer.old, layer.new))
    if before == after:
        return Cause(CauseKind.ARTIFACT_CHANGED, name="python", version=after, where=PYTHON_LOCK)
    return _changed_standalone(before, after)


def _changed_standalone(before: str, after: str) -> Cause:
    if before and after:
        return _changed_interpreter("", PYTHON_LOCK, before=before, after=after)
    return _changed_interpreter("", in_settings("interpreter"))  # it was, or is now, the root's


def compare_image(layer: LayerComparison) -> Iterator[Cause]:
    """Compare the images of a registry that a root is."""
    where = layer.locate_key("root.image")
    yield Cause(CauseKind.IMAGE_CHANGED, before=layer.old["image"], after=layer.new["image"], where=where)


def _changed_interpreter(
    stage: str, where: str, *, before: str = "", after: str = "", because: Cause | None = None
) -> Cause:
    return Cause(CauseKind.INTERPRETER_CHANGED, stage=stage, before=before, after=after, because=because, where=where)


def _compare_packages(
    layer: LayerComparison, old_pins: Sequence[str], new_pins: Sequence[str], stage: str, lock: str
) -> Iterator[Cause]:
    """Compare ``NAME=VERSION`` pins. Packages of Python that move together are one cause: the interpreter."""
    old, new = _split(old_pins), _split(new_pins)
    old_pythons, new_pythons = _python_packages(old), _python_packages(new)
    shared = sorted(old_pythons.keys() & new_pythons.keys(), key=lambda name: (name != "python3.x", name))
    moves: dict[tuple[str, str], str] = {}
    for name in shared:
        before, after = old[old_pythons[name]], new[new_pythons[name]]
        if before != after:
            moves.setdefault(_versions(before, after), new_pythons[name])
    for (before, after), name in moves.items():
        yield _changed_interpreter(stage, layer.locations.package(lock, name), before=before, after=after)
    reported = {names[name] for names in (old_pythons, new_pythons) for name in shared}
    for name in sorted((old.keys() | new.keys()) - reported):
        where = layer.locations.package(lock, name)
        if name not in new:
            yield Cause(CauseKind.PACKAGE_REMOVED, name=name, version=old[name], stage=stage, where=where)
        elif name not in old:
            yield Cause(CauseKind.PACKAGE_ADDED, name=name, version=new[name], stage=stage, where=where)
        elif old[name] != new[name]:
            yield Cause(
                CauseKind.PACKAGE_CHANGED, name=name, before=old[name], after=new[name], stage=stage, where=where
            )


def _python_packages(pins: Mapping[str, str]) -> dict[str, str]:
    """Return the packages of the interpreter, by names without the minor version."""
    return {_MINOR.sub("3.x", name): name for name in pins if _PYTHON.fullmatch(name)}


def _versions(before: str, after: str) -> tuple[str, str]:
    """Return two versions of a package: Python's own (``3.13.5``) if those differ."""
    old, new = (version.rpartition(":")[2].partition("-")[0] for version in (before, after))
    return (old, new) if old != new else (before, after)


def _split(pins: Sequence[str]) -> dict[str, str]:
    return {name: version for name, _, version in (pin.partition("=") for pin in pins)}
