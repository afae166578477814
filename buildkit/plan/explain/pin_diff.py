"""What differs between two recipes of one layer in what is pinned: wheels, packages, interpreters, layers below."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from buildkit.plan.explain.causes import Cause, FormatChanged
from buildkit.plan.explain.pin_causes import (
    ArtifactChanged,
    BuilderChanged,
    CompiledAnew,
    ImageChanged,
    InterpreterChanged,
    PackageAdded,
    PackageChanged,
    PackageRemoved,
    PinAdded,
    PinChanged,
    PinRemoved,
    RootBelowChanged,
    SourceChanged,
    StepAdded,
    StepRemoved,
    WheelMoved,
)
from buildkit.plan.explain.recipe_diff import (
    Case,
    changed,
    compare,
    compare_env,
    compare_files,
    compare_new,
    in_file,
    in_settings,
)
from buildkit.plan.roots import find_apt_pins
from buildkit.plan.spec import Compile, Kind, MakeRoot, PackWheels, RunStep, Spec

_PYTHON = re.compile(r"(?:lib)?python3(?:\.\d+)?(?:-minimal|-stdlib|t64)?")
_MINOR = re.compile(r"3\.\d+")


def _wheels(case: Case) -> Iterator[Cause]:
    old, new = ({wheel["name"]: wheel for wheel in rows} for rows in (case.old["wheels"], case.new["wheels"]))
    work = case.spec.work
    paths = {a.name: a.path for a in work.wheels} if isinstance(work, PackWheels) else {}
    for name in sorted(old.keys() | new.keys()):
        where = case.places.pin(case.stage, name, paths.get(name, ""))
        if name not in new:
            yield from _left(case, name, old[name]["version"], where)
        elif name not in old:
            yield from _came(case, name, new[name]["version"], where)
        elif old[name] != new[name]:
            yield from _compare_wheel(case, old[name], new[name], where)


def _left(case: Case, name: str, version: str, where: str) -> Iterator[Cause]:
    layer = case.places.wheel_layer(case.stage, name)
    yield (
        _moved(name, version, case.spec.name, layer) if layer else PinRemoved(name=name, version=version, where=where)
    )


def _came(case: Case, name: str, version: str, where: str) -> Iterator[Cause]:
    for layer, recipe in case.history.last.items():
        if not layer.startswith(f"{case.stage}/"):
            continue
        for wheel in json.loads(recipe).get("wheels", ()):
            if wheel["name"] == name:
                if wheel["version"] != version:
                    yield PinChanged(name=name, before=wheel["version"], after=version, where=where)
                yield _moved(name, version, layer, case.spec.name)
                return
    yield PinAdded(name=name, version=version, where=where)


def _moved(name: str, version: str, before: str, after: str) -> Cause:
    alone = any(layer.rpartition("/")[2] == name for layer in (before, after))
    where = in_settings("heavy" if alone else "bins")
    return WheelMoved(name=name, version=version, before=before, after=after, where=where)


def _compare_wheel(case: Case, old: Mapping[str, str], new: Mapping[str, str], where: str) -> Iterator[Cause]:
    name, version = new["name"], new["version"]
    if old["version"] != version:
        yield PinChanged(name=name, before=old["version"], after=version, where=where)
    elif "compiled" in old and "compiled" in new:
        causes = list(_compare_compiled(case, name, old["compiled"], where))
        for because in causes:
            yield CompiledAnew(name=name, version=version, because=because, where=because.where or where)
        if not causes:
            yield CompiledAnew(name=name, version=version, where=where)
    else:
        before, after = ("compiled here" if "compiled" in wheel else "a wheel" for wheel in (old, new))
        yield ArtifactChanged(name=name, version=version, before=before, after=after, where=where)


def _compare_compiled(case: Case, name: str, key: str, where: str) -> Iterator[Cause]:
    """Why a wheel is compiled again; nothing where what it was compiled from is not known any more."""
    past = case.history.find(key)
    items: tuple[Compile, ...] = case.spec.work.compiled if isinstance(case.spec.work, PackWheels) else ()
    item = next(item for item in items if item.artifact.name == name)
    if past is None:
        return
    old, new = json.loads(past.recipe), json.loads(item.recipe)
    if isinstance(old.get("tree"), list) and item.tree:
        yield from compare_files(old["tree"], new["tree"], item.tree.path)
    elif old.get("sdist") != new.get("sdist"):
        yield SourceChanged(name=item.artifact.file or item.artifact.path, where=where)
    builder = case.places.builder()
    stage = builder[-1].name.partition("/")[0] if builder else ""
    if old["builder"] != new["builder"]:
        causes = [cause for _, cause in _compare_layers(case, old["builder"], builder)]
        causes = [c for c in causes if not (isinstance(c, InterpreterChanged) and c.because in causes)]  # said already
        yield from causes or [BuilderChanged(stage=stage, where=case.places.stage(stage))]
    yield from compare_env(
        old["env"], new["env"], where=in_file(case.places.stage(stage), "config.env"), of=f"the stage {stage}"
    )
    for part in sorted((old.keys() | new.keys()) - {"builder", "env", "format", "sdist", "tree"}):
        if old.get(part) != new.get(part):
            yield changed(part, old.get(part), new.get(part), where=in_settings(part))
    if old["format"] != new["format"]:
        yield FormatChanged(before=old["format"], after=new["format"])


def _compare_layers(case: Case, keys: Sequence[str], specs: Sequence[Spec]) -> Iterator[tuple[str, Cause]]:
    """What changed of several layers that had these keys: the layer's name, and why; no cause twice for one below.

    Where one of them is not known any more, what has no counterpart is not taken for new.
    """
    now = {spec.key.hex for spec in specs}
    pasts = [case.history.find(key) for key in keys if key not in now]
    gone = {past.name: past.recipe for past in pasts if past}
    for spec in specs:
        if spec.key.hex in keys:
            continue
        layer = Case(spec=spec, history=case.history, places=case.places)
        before = gone.pop(spec.name, None)
        if before is not None:
            causes = compare(layer, before)
        elif None in pasts:
            continue
        elif isinstance(spec.work, RunStep):
            causes = iter([StepAdded(step=spec.work.run.name, where=layer.key("run"))])
        else:
            causes = compare_new(layer)
        yield from ((spec.name, cause) for cause in causes if not isinstance(cause, RootBelowChanged))
    for name in gone:
        file = case.places.stage(name.partition("/")[0])
        yield name, StepRemoved(step=name.partition("/")[2], where=in_file(file, "run"))


def _parent(case: Case) -> Iterator[Cause]:
    chain = case.spec.work.chain if isinstance(case.spec.work, RunStep) else ()
    keys: list[str] = []
    key: str = case.old["parent"]
    while key and key not in keys:
        keys.insert(0, key)
        past = case.history.find(key)
        key = json.loads(past.recipe).get("parent", "") if past else ""
    causes = list(_compare_layers(case, keys, chain))
    for layer, because in causes:
        yield RootBelowChanged(layer=layer, because=because, where=because.where)
    if not causes and chain:
        yield RootBelowChanged(layer=chain[-1].name)


def _packages(case: Case) -> Iterator[Cause]:
    work = case.spec.work
    packages = work.debian.packages if isinstance(work, MakeRoot) else ""
    yield from _compare_packages(case, _split(case.old["packages"]), _split(case.new["packages"]), case.stage, packages)


def compare_apt_step(case: Case, old: Sequence[str], new: Sequence[str]) -> Iterator[Cause]:
    """Two commands that install the packages of ``[apt]``; nothing where one of them is no such command."""
    pins = find_apt_pins(old), find_apt_pins(new)
    packages = case.spec.work.run.name.removeprefix("apt ") if isinstance(case.spec.work, RunStep) else ""
    if pins[0] is not None and pins[1] is not None:
        yield from _compare_packages(case, _split(pins[0]), _split(pins[1]), case.stage, packages)


def _compare_packages(
    case: Case, old: Mapping[str, str], new: Mapping[str, str], stage: str, packages: str
) -> Iterator[Cause]:
    """Packages of Python that move together are one cause: the interpreter."""
    pythons = [{_MINOR.sub("3.x", name): name for name in pins if _PYTHON.fullmatch(name)} for pins in (old, new)]
    both = sorted(pythons[0].keys() & pythons[1].keys(), key=lambda name: (name != "python3.x", name))
    moves: dict[tuple[str, str], str] = {}
    for name in both:
        before, after = old[pythons[0][name]], new[pythons[1][name]]
        if before != after:
            moves.setdefault(_versions(before, after), pythons[1][name])
    for (before, after), name in moves.items():
        yield InterpreterChanged(stage=stage, before=before, after=after, where=case.places.package(packages, name))
    said = {names[name] for names in pythons for name in both}
    for name in sorted((old.keys() | new.keys()) - said):
        where = case.places.package(packages, name)
        if name not in new:
            yield PackageRemoved(name=name, version=old[name], stage=stage, where=where)
        elif name not in old:
            yield PackageAdded(name=name, version=new[name], stage=stage, where=where)
        elif old[name] != new[name]:
            yield PackageChanged(name=name, before=old[name], after=new[name], stage=stage, where=where)


def _versions(before: str, after: str) -> tuple[str, str]:
    """Two versions of a package: Python's own (``3.13.5``) where they tell the two apart."""
    own = [version.rpartition(":")[2].partition("-")[0] for version in (before, after)]
    return (own[0], own[1]) if own[0] != own[1] else (before, after)


def _split(pins: Sequence[str]) -> dict[str, str]:
    return {name: version for name, _, version in (pin.partition("=") for pin in pins)}


def _bytecode(case: Case) -> Iterator[Cause]:
    old, new = case.old["bytecode"], case.new["bytecode"]
    if case.spec.kind is Kind.ROOT or not (old and new):
        yield changed("bytecode", bool(old), bool(new), where=in_settings("bytecode"))
        return
    specs = case.places.compiler()
    stage = specs[0].name.partition("/")[0] if specs else ""
    first = specs[0].work if specs else None
    packages = first.debian.packages if isinstance(first, MakeRoot) else ""
    causes: list[Cause] = []
    if all("=" in pin for pin in (*old, *new)):
        causes += _compare_packages(case, _split(old), _split(new), stage, packages)
    elif not any("=" in pin for pin in (*old, *new)):
        below = _compare_layers(case, old, specs)
        causes += (InterpreterChanged(stage=stage, because=because, where=because.where) for _, because in below)
    yield from causes or [InterpreterChanged(stage=stage, where=in_settings("bytecode-root"))]


def _image(case: Case) -> Iterator[Cause]:
    yield ImageChanged(before=case.old["image"], after=case.new["image"], where=case.key("root.image"))


PARTS: dict[str, Callable[[Case], Iterator[Any]]] = {
    "bytecode": _bytecode,
    "image": _image,
    "packages": _packages,
    "parent": _parent,
    "wheels": _wheels,
}
