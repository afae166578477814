"""A stage to its composition: root, layers and config. Pure, given a checkout."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from buildkit.declare.graph import Graph, Resolved
from buildkit.declare.pins import AptPin, Artifact, Model, ModelFile, Pin
from buildkit.declare.project import Project
from buildkit.declare.requirements import check_agreement
from buildkit.declare.stage import Config, Models, Run, Stage
from buildkit.digest import Key, canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.plan.packing import group_wheels, order_layers
from buildkit.plan.spec import (
    Compile,
    Kind,
    MakeRoot,
    PackFiles,
    PackModel,
    PackPrefix,
    PackWheels,
    PullImage,
    RunStep,
    Spec,
    Tree,
    make_recipe,
)

LARGE_MODEL_FILE = 8 << 20
_UNPACK_RATIO = 4  # wheels unpack to about three to four times their size
_RATES = {Kind.PREFIX: 0.01, Kind.WHEELS: 1.0, Kind.MODEL: 1.0, Kind.FILES: 100.0}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Checkout(Protocol):
    """What committed text says; each answer raises DefinitionError where it cannot be had."""

    def artifacts(self, lock: str) -> tuple[Artifact, ...]:
        """Distributions of a requirements lock that apply to the target."""

    def pins(self, lock: str) -> tuple[Pin, ...]:
        """Pins of a requirements lock that apply to the target, with their lines."""

    def apt(self, packages: str) -> tuple[AptPin, ...]:
        """Pins of the lock beside an apt list."""

    def models(self, lock: str) -> tuple[Model, ...]:
        """Models of a models lock."""

    def tree(self, path: str) -> Tree:
        """Files below a path of the repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What an image is made of: ``root`` lowest first, then ``layers`` in their order."""

    stage: Stage
    root: tuple[Spec, ...]
    layers: tuple[Spec, ...]
    config: Config

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Everything, lowest first."""
        return self.root + self.layers

    @property
    def key(self) -> Key:
        """One key for all layers, for what depends on the whole (a compiled wheel on its builder)."""
        return Key.of(canonical_json([spec.key.hex for spec in self.specs]).encode())


class Composer:
    """Composes stages of one checkout; each lock and tree is asked for once."""

    def __init__(self, project: Project, graph: Graph, checkout: Checkout) -> None:
        self._project = project
        self._graph = graph
        self._checkout = checkout
        self._own: dict[str, tuple[Spec, ...]] = {}
        self._compiling = False

    def compose(self, name: str) -> Composition:
        """The composition of a stage; raises DefinitionError."""
        resolved = self._graph.resolve(name)
        self._check_agreement(resolved)
        root = self.root(resolved)
        layers = order_layers(spec for part in resolved.parts for spec in self._layers_of(part))
        composition = Composition(stage=resolved.stage, root=root, layers=layers, config=self._config(resolved, layers))
        if len(composition.specs) > self._project.max_layers:
            raise DefinitionError(
                f"{resolved.stage.file}: the image would have {len(composition.specs)} layers, "
                f"more than {self._project.max_layers}",
                hint="raise `heavy`, or lower `bins`, in [tool.buildkit]",
            )
        return composition

    def _check_agreement(self, resolved: Resolved) -> None:
        """Locks that meet in one image agree on every version."""
        locks = dict.fromkeys(lock for part in resolved.parts for lock in part.wheels)
        versions: dict[str, str] = {}
        for lock in locks:
            for artifact in self._checkout.artifacts(lock):
                if versions.setdefault(artifact.name, artifact.version) != artifact.version:
                    raise DefinitionError.of(list(check_agreement({lock: self._checkout.pins(lock) for lock in locks})))

    @cached_property
    def builder(self) -> Composition:
        """The stage in which sdists are compiled."""
        name = self._project.builder
        if name not in self._graph.stages:
            raise DefinitionError(
                f"a wheel must be compiled, but there is no stage `{name}` to do it in",
                hint="add one, or name it by `builder` in [tool.buildkit]",
            )
        if self._compiling:
            raise DefinitionError(
                f"stages/{name}: a lock of the builder needs the builder itself",
                hint="the builder's own locks may hold wheels only",
            )
        self._compiling = True
        try:
            return self.compose(name)
        finally:
            self._compiling = False

    @cached_property
    def compiler(self) -> tuple[Spec, ...]:
        """The root whose interpreter compiles bytecode."""
        name = self._project.bytecode_root
        if name not in self._graph.stages:
            raise DefinitionError(
                f"bytecode is to be compiled, but there is no stage `{name}` to do it in",
                hint="name one by `bytecode-root`, or say `bytecode = false`, in [tool.buildkit]",
            )
        return self.root(self._graph.resolve(name))

    def root(self, resolved: Resolved) -> tuple[Spec, ...]:
        """The specs of a stage's root, lowest first."""
        chain: tuple[Spec, ...] = ()
        for stage in resolved.chain:
            for spec in self._root_steps(stage, chain):
                chain = (*chain, spec)
        return chain

    def _root_steps(self, stage: Stage, below: tuple[Spec, ...]) -> Iterator[Spec]:
        first = self._root_start(stage)
        runs = ((self._apt_step(stage),) if stage.apt else ()) + stage.run
        chain = below + ((first,) if first else ())
        if first:
            yield first
        for run in runs:
            step = self._run_step(stage, run, chain)
            chain = (*chain, step)
            yield step

    def _root_start(self, stage: Stage) -> Spec | None:
        if stage.image:
            recipe, key = make_recipe(Kind.IMAGE, image=stage.image, arch=self._project.target.deb_arch)
            return _spec(stage, "image", Kind.IMAGE, recipe, key, work=PullImage(ref=stage.image), says=stage.image)
        debian = stage.debian
        if debian is None:
            return None
        pins = self._checkout.apt(debian.packages)
        recipe, key = make_recipe(
            Kind.ROOT,
            suite=debian.suite,
            variant=debian.variant,
            components=debian.components,
            arch=self._project.target.deb_arch,
            packages=[f"{pin.name}={pin.version}" for pin in pins],
            exclude=debian.exclude,
            users=[[u.name, u.uid, u.gid, u.home, u.shell] for u in debian.users],
            drop_setuid=debian.drop_setuid,
            bytecode=self._project.bytecode,
        )
        says = f"Debian {debian.suite}: {len(pins)} packages of {debian.packages}"
        return _spec(stage, "root", Kind.ROOT, recipe, key, work=MakeRoot(debian=debian, pins=pins), says=says)

    def _apt_step(self, stage: Stage) -> Run:
        pins = self._checkout.apt(stage.apt)
        names = " ".join(f"{pin.name}={pin.version}" for pin in pins)
        script = (
            "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; "
            f"apt-get install -qq --yes --no-install-recommends {names}; "
            "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/*"
        )
        return Run(
            name=f"apt {stage.apt}",
            command=("/bin/sh", "-eu", "-c", script),
            network=True,
        )

    def _run_step(self, stage: Stage, run: Run, chain: tuple[Spec, ...]) -> Spec:
        mounts = tuple((self._checkout.tree(mount.source), mount.target) for mount in run.mounts)
        recipe, key = make_recipe(
            Kind.RUN,
            parent=chain[-1].key.hex,
            command=run.command,
            network=run.network,
            env=dict(run.env),
            mounts=[[target, tree.listing()] for tree, target in mounts],
        )
        work = RunStep(chain=chain, run=run, mounts=mounts)
        return _spec(stage, run.name, Kind.RUN, recipe, key, work=work, says=f"run: {run.name}")

    def _layers_of(self, stage: Stage) -> tuple[Spec, ...]:
        if stage.name not in self._own:
            self._own[stage.name] = (
                *self._wheels(stage),
                *(self._models(stage, stage.models) if stage.models else ()),
                *self._files(stage),
            )
        return self._own[stage.name]

    def _wheels(self, stage: Stage) -> Iterator[Spec]:
        if not stage.wheels:
            return
        yield self._prefix(stage)
        artifacts = {a.name: a for lock in stage.wheels for a in self._checkout.artifacts(lock)}
        groups = group_wheels(tuple(artifacts.values()), heavy=self._project.heavy, bins=self._project.bins)
        for name, members in groups:
            yield self._wheel_layer(stage, name, members)

    def _prefix(self, stage: Stage) -> Spec:
        target = self._project.target
        recipe, key = make_recipe(
            Kind.PREFIX, prefix=target.prefix, interpreter=target.interpreter, python=target.python
        )
        says = f"virtual environment {target.prefix} of Python {target.minor}"
        return replace(
            _spec(stage, "", Kind.PREFIX, recipe, key, work=PackPrefix(), says=says),
            name=target.prefix,
            weight=0,
        )

    def _wheel_layer(self, stage: Stage, name: str, members: tuple[Artifact, ...]) -> Spec:
        target = self._project.target
        compiled = tuple(self._compile(artifact) for artifact in members if not artifact.is_wheel)
        builds = {item.artifact.name: item for item in compiled}
        recipe, key = make_recipe(
            Kind.WHEELS,
            prefix=target.prefix,
            interpreter=target.interpreter,
            python=target.minor,
            bytecode=self._bytecode,
            wheels=[_wheel_recipe(a, builds.get(a.name)) for a in members],
        )
        spec = _spec(
            stage,
            name,
            Kind.WHEELS,
            recipe,
            key,
            work=PackWheels(wheels=members, compiled=compiled),
            says="wheels: " + ", ".join(f"{a.name} {a.version}" for a in members),
        )
        return replace(
            spec, weight=_UNPACK_RATIO * sum(a.size for a in members), rate=_RATES[Kind.WHEELS] * len(members)
        )

    def _compile(self, artifact: Artifact) -> Compile:
        tree = self._checkout.tree(artifact.path) if artifact.path else None
        source = {"tree": tree.hash.hex} if tree else {"sdist": artifact.sha256.hex if artifact.sha256 else ""}
        recipe, key = make_recipe("compile", name=artifact.name, builder=self.builder.key.hex, **source)
        return Compile(artifact=artifact, recipe=recipe, key=key, tree=tree)

    @cached_property
    def _bytecode(self) -> list[str] | None:
        """What identifies the compiling interpreter in recipes, or None without bytecode."""
        if not self._project.bytecode:
            return None
        first = self.compiler[0]
        if isinstance(first.work, MakeRoot):
            pins = [pin for pin in first.work.pins if pin.name.startswith(("python3", "libpython3"))]
            return [f"{pin.name}={pin.version}" for pin in pins]
        return [spec.key.hex for spec in self.compiler]

    def _models(self, stage: Stage, wanted: Models) -> Iterator[Spec]:
        models = {model.name: model for model in self._checkout.models(wanted.lock)}
        missing = [name for name in wanted.names if name not in models]
        if missing:
            raise DefinitionError.of(
                [
                    Problem(file=stage.file, key="models.names", what=f"{wanted.lock} has no model `{name}`")
                    for name in missing
                ]
            )
        for name in wanted.names or models:
            yield from self._model(stage, models[name], wanted.target)

    def _model(self, stage: Stage, model: Model, target: str) -> Iterator[Spec]:
        small = tuple(f for f in model.files if f.size < LARGE_MODEL_FILE)
        large = (f for f in model.files if f.size >= LARGE_MODEL_FILE)
        groups: list[tuple[str, tuple[ModelFile, ...]]] = [(f"{model.name}/{f.path}", (f,)) for f in large]
        if small:
            groups.append((model.name, small))
        folder = posixpath.join(target, model.name)
        for name, files in groups:
            yield self._model_layer(stage, name, PackModel(model=model, files=files, target=folder))

    def _model_layer(self, stage: Stage, name: str, work: PackModel) -> Spec:
        files = [[f.path, f.sha256.hex] for f in work.files]
        recipe, key = make_recipe(Kind.MODEL, target=work.target, files=files)
        says = f"model: {name} {work.model.version}".rstrip()
        spec = _spec(stage, name, Kind.MODEL, recipe, key, work=work, says=says)
        return replace(spec, weight=sum(f.size for f in work.files))

    def _files(self, stage: Stage) -> Iterator[Spec]:
        for copy in stage.copy:
            tree = self._checkout.tree(posixpath.normpath(posixpath.join(stage.folder, copy.source)))
            recipe, key = make_recipe(Kind.FILES, target=copy.target, files=tree.listing())
            work = PackFiles(tree=tree, copy=copy)
            spec = _spec(
                stage,
                copy.source,
                Kind.FILES,
                recipe,
                key,
                work=work,
                says=f"files: {tree.path} → {copy.target}",
            )
            yield replace(spec, weight=sum(f.size for f in tree.files))

    def _config(self, resolved: Resolved, layers: tuple[Spec, ...]) -> Config:
        config, target = resolved.config, self._project.target
        env = dict(config.env)
        if any(spec.kind is Kind.PREFIX for spec in layers):
            env = {"PATH": f"{target.prefix}/bin:{_SYSTEM_PATH}", "VIRTUAL_ENV": target.prefix} | env
        elif resolved.chain:
            env = {"PATH": _SYSTEM_PATH} | env
        labels = {
            "org.opencontainers.image.title": f"{self._project.name}/{resolved.stage.name}",
            "org.opencontainers.image.description": resolved.stage.summary,
            **dict(self._project.labels),
            **_base_labels(resolved),
            **dict(config.labels),
        }
        return replace(config, env=tuple(env.items()), labels=tuple(labels.items()))


def _spec(stage: Stage, part: str, kind: Kind, recipe: str, key: Key, *, work: object, says: str) -> Spec:
    return Spec(
        name=f"{stage.name}/{part}",
        kind=kind,
        recipe=recipe,
        key=key,
        work=work,  # type: ignore[arg-type]
        history=says,
        rate=_RATES.get(kind, 0.0),
    )


def _wheel_recipe(artifact: Artifact, compiled: Compile | None) -> dict[str, str]:
    made: dict[str, str] = {"name": artifact.name, "version": artifact.version}
    if compiled:
        return made | {"compiled": compiled.key.hex}
    return made | {"sha256": artifact.sha256.hex if artifact.sha256 else ""}


def _base_labels(resolved: Resolved) -> dict[str, str]:
    image = resolved.chain[0].image if resolved.chain else ""
    if not image:
        return {}
    name, _, digest = image.partition("@")
    return {"org.opencontainers.image.base.name": name, "org.opencontainers.image.base.digest": digest}
