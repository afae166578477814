"""Changes of a project, and the layers that each affects.

A mutation edits a project and says which layers, of those seen before and of those seen after, it belongs to; what
depends on them is found by `Seen.spread`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from projectdisk import Seen
from smallproject import BASE, DEPS, File, Small, sha

from buildkit.declare.schema import ValueLocation
from buildkit.digest import FileHash
from buildkit.locks.derivation import read_derivation
from buildkit.locks.derive_schema import LOCKED_DERIVATION
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.derivations import make_derived_from
from buildkit.plan.spec import PackFiles, PackFramework, PackModel, PackPrefix, PackPython, PackWheels, RunStep, Spec

Belongs = Callable[[Seen, Seen], set[str]]
"""Names of layers of the first that a change belongs to; the second is what it is compared with."""
Mutate = Callable[[Small], Belongs]


# what a change may belong to


def none(_seen: Seen, _other: Seen) -> set[str]:
    return set()


def root(seen: Seen, _other: Seen) -> set[str]:
    return {"base/root", "base/image", "base/containerfile"} & seen.specs.keys()


def compiled(seen: Seen, _other: Seen) -> set[str]:
    return {name for name in seen.keys if name.startswith("compile ")}


def prefix(seen: Seen, _other: Seen) -> set[str]:
    return seen.where(lambda spec: isinstance(spec.work, PackPrefix))


def python(seen: Seen, _other: Seen) -> set[str]:
    return seen.where(lambda spec: isinstance(spec.work, PackPython))


def framework(seen: Seen, _other: Seen) -> set[str]:
    return seen.where(lambda spec: isinstance(spec.work, PackFramework))


def wheels(seen: Seen, _other: Seen) -> set[str]:
    return seen.wheels()


def step(seen: Seen, _other: Seen) -> set[str]:
    return seen.where(lambda spec: isinstance(spec.work, RunStep) and spec.work.run.name in {"prepare", "get ready"})


def named_step(name: str) -> Belongs:
    return lambda seen, _other: seen.where(lambda spec: isinstance(spec.work, RunStep) and spec.work.run.name == name)


def apt_step(seen: Seen, _other: Seen) -> set[str]:
    return seen.where(lambda spec: isinstance(spec.work, RunStep) and spec.work.run.name.startswith("apt "))


def copied(target: str) -> Belongs:
    return lambda seen, _other: seen.where(lambda s: isinstance(s.work, PackFiles) and s.work.copy.target == target)


def model(name: str, path: str = "") -> Belongs:
    def fits(spec: Spec) -> bool:
        work = spec.work
        return isinstance(work, PackModel) and work.model.name == name and (not path or path in _paths(work))

    return lambda seen, _other: seen.where(fits)


def models(seen: Seen, _other: Seen) -> set[str]:
    return seen.where(lambda spec: isinstance(spec.work, PackModel))


def holding(name: str) -> Belongs:
    return lambda seen, _other: seen.holding(name)


def regrouped(seen: Seen, other: Seen) -> set[str]:
    """Layers that hold other wheels, or files of models, together than any layer of ``other``."""
    there = {_members(spec) for spec in other.specs.values()}
    return seen.where(lambda spec: _members(spec) not in there)


def both(*belongs: Belongs) -> Belongs:
    return lambda seen, other: {name for each in belongs for name in each(seen, other)}


def _paths(work: PackModel) -> list[str]:
    return [file.path for file in work.files]


def _members(spec: Spec) -> tuple[object, ...]:
    match spec.work:
        case PackWheels():
            return ("wheels", *sorted(artifact.name for artifact in spec.work.wheels))
        case PackModel():
            return ("model", spec.work.model.name, *_paths(spec.work))
    return ()


def expected(change: Belongs, seen: Seen, other: Seen, small: Small) -> set[str]:
    """Keys of the layers of ``seen``, what ``small`` came to, that a change moves."""
    names = seen.spread(change(seen, other), compilers=small.settings.get("bytecode", True) and not by_package(small))
    return {seen.keys[name] for name in names & seen.keys.keys()}


def by_package(small: Small) -> bool:
    """Whether the compiling interpreter is identified by Debian packages."""
    interpreter = small.settings.get("interpreter", "/usr/bin/python3.13")
    return "suite" in small.root and "python3.13" in small.apts[BASE] and interpreter.startswith("/usr/bin/python3")


# how something is changed


def put(where: str, value: Any, belongs: Belongs) -> Mutate:
    """Set what stands at ``where`` (``base.root.suite``), in the stages' tables."""

    def mutate(small: Small) -> Belongs:
        *path, key = where.split(".")
        table: Any = small.stages
        for part in path:
            table = table[int(part)] if part.isdigit() else table.setdefault(part, {})
        assert table.get(key) != value
        table[key] = value
        return belongs

    return mutate


def setting(key: str, value: Any, belongs: Belongs) -> Mutate:
    def mutate(small: Small) -> Belongs:
        small.settings[key] = value
        return belongs

    return mutate


def user(key: str, value: Any) -> Mutate:
    def mutate(small: Small) -> Belongs:
        small.root["user"] = small.root.get("user") or [{"name": "ml", "uid": 7}]
        small.root["user"][0][key] = value
        return root

    return mutate


def pin(file: str, name: str, version: str | None, belongs: Belongs) -> Mutate:
    """Another version of a package, or the package gone."""

    def mutate(small: Small) -> Belongs:
        small.apts[file].pop(name, None)
        small.apts[file] |= {name: version} if version else {}
        return belongs

    return mutate


def artifact(belongs: Belongs, **changes: Any) -> Mutate:
    """Another file for the first wheel of `deps`."""

    def mutate(small: Small) -> Belongs:
        for entry in small.artifacts(small.wheels[DEPS][0]["name"]):
            entry |= changes  # noqa: PLW2901 - in place
        return belongs

    return mutate


def first_wheel(**changes: Any) -> Mutate:
    def mutate(small: Small) -> Belongs:
        return artifact(holding(small.wheels[DEPS][0]["name"]), **changes)(small)

    return mutate


def weights(index: int, belongs: Belongs, **changes: Any) -> Mutate:
    """Another word about a model."""

    def mutate(small: Small) -> Belongs:
        small.models[index] |= changes
        return belongs

    return mutate


def derived(**gate: Any) -> Mutate:
    """A model more, made of the first one; with ``gate``, by a script and over files of the repository."""

    def mutate(small: Small) -> Belongs:
        source = small.models[0]
        table: dict[str, Any] = {"tool": "to-safetensors", "stage": "weights", "options": {"key": "state"}}
        table |= {"report": {"size": "0.5"}, "ranges": {"x": [0.0, 1.5]}}
        read: dict[str, list[list[str]]] = {}
        if gate:
            small.files["judge.py"] = File("def f(model, data): ...\n", "file")
            table["gate"] = {"data": "path:weights", "metric": "judge.py:f", **gate}
            read["judge.py"] = [["judge.py", FileHash.of(small.files["judge.py"].text.encode()).hex]]
            own = {name: file for name, file in small.files.items() if name.startswith("weights/")}
            read["path:weights"] = sorted(
                [name.removeprefix("weights/"), FileHash.of(file.text.encode()).hex] for name, file in own.items()
            )
        derivation = read_derivation(source["name"], LOCKED_DERIVATION.read(table, ValueLocation("", [])) or {})
        files = tuple(
            ModelFile(path=file["path"], sha256=FileHash(file["sha256"]), size=file["size"], source="")
            for file in source["file"]
        )
        made_of = Model(name=source["name"], version="", source=RepoSource(path=""), license="", files=files)
        key = make_derived_from(derivation, made_of, (), read).key
        made = {"path": "made.bin", "sha256": sha("made"), "size": 9, "source": ""}
        entry = {"name": "made", "version": "", "source": f"derive:{source['name']}", "license": "", "request": key.hex}
        small.models.append({**entry, "derived": table, "file": [made]})
        return model("made")

    return mutate


def model_file(belongs: Belongs, **changes: Any) -> Mutate:
    """Another word about the first file of the first model."""

    def mutate(small: Small) -> Belongs:
        small.models[0]["file"][0] |= changes
        return belongs

    return mutate


def file(path: str, text: str | None, kind: str, belongs: Belongs, *, instead_of: str = "") -> Mutate:
    """A file with other content, of another kind, at another place, or (None) none."""

    def mutate(small: Small) -> Belongs:
        for name in (path, instead_of):
            small.files.pop(name, None)
        small.files |= {path: File(text, kind)} if text is not None else {}
        return belongs

    return mutate


def moved(old: str, new: str, change: Mutate) -> Mutate:
    """Files below another folder, together with another change."""

    def mutate(small: Small) -> Belongs:
        small.files = {
            new + name.removeprefix(old) if name.startswith(old) else name: file for name, file in small.files.items()
        }
        return change(small)

    return mutate


def both_changes(first: Mutate, second: Mutate) -> Mutate:
    """Two changes; what they belong to is what the second does."""

    def mutate(small: Small) -> Belongs:
        first(small)
        return second(small)

    return mutate


def do(change: Callable[[Small], object], belongs: Belongs) -> Mutate:
    def mutate(small: Small) -> Belongs:
        change(small)
        return belongs

    return mutate
