"""Compose a stage: its root, layers and config. Pure, given a checkout."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.graph import Graph, ResolvedStage
from buildkit.declare.project import Project
from buildkit.declare.schema import suggest_word
from buildkit.declare.stage import Config, Copy, Models, Stage
from buildkit.digest import Key, canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.pins import Artifact
from buildkit.plan.checkout import Checkout
from buildkit.plan.framework_layer import compose_framework
from buildkit.plan.image_config import compose_config
from buildkit.plan.interpreter import find_python_pins, is_same_python
from buildkit.plan.model_layout import model_layer, pack_model
from buildkit.plan.mounted_models import link_models
from buildkit.plan.packing import group_wheels, order_layers
from buildkit.plan.roots import RootComposer, step_names
from buildkit.plan.sbom_layer import compose_sbom
from buildkit.plan.spec import (
    Compile,
    Kind,
    PackFiles,
    PackPrefix,
    PackWheels,
    Spec,
    Tree,
    distinct,
    make_recipe,
    make_source_recipe,
    make_spec,
    make_wheel_recipe,
)

_UNPACK_RATIO = 4  # wheels unpack to about three to four times their size


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """The contents of an image: the layers of ``root``, lowest first, then ``layers`` in order.

    ``prefer`` are the projects that win where wheels meet; see `order_layers`. ``args`` are the build arguments that
    were used, by stage. ``gpu`` is what its containers ask for, which is no part of it.
    """

    stage: Stage
    root: tuple[Spec, ...]
    layers: tuple[Spec, ...]
    config: Config
    prefer: tuple[str, ...] = ()
    args: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    gpu: GpuRequest | None = None

    @property
    def specs(self) -> tuple[Spec, ...]:
        """All layers, lowest first."""
        return self.root + self.layers

    @property
    def key(self) -> Key:
        """One key for all layers, for results that depend on all of them (a compiled wheel on its builder)."""
        return Key.of(canonical_json([spec.key.hex for spec in self.specs]).encode())


class Composer:
    """Composes stages of one checkout for one processor; each lock and tree is read once.

    ``peer`` gives the composer of another processor of the project; by default there is none.
    """

    def __init__(
        self, project: Project, graph: Graph, checkout: Checkout, peer: Callable[[str], Composer] | None = None
    ) -> None:
        self._project = project
        self._graph = graph
        self._checkout = checkout
        self._peer = peer
        self._roots = RootComposer(project, checkout)
        self._own: dict[str, tuple[Spec, ...]] = {}
        self._compiling = False

    def compose(self, name: str) -> Composition:
        """Return the composition of a stage; raises DefinitionError."""
        resolved = self._graph.resolve(name)
        self._check_agreement(resolved)
        root = self._roots.chain(resolved)
        own = self._own_layers(resolved)
        prefer = tuple(dict.fromkeys(name for part in reversed(resolved.parts) for name in part.prefer))
        layers = order_layers(own, prefer)
        config = self._config(resolved, layers)
        if resolved.stage.sbom:
            layers = (*layers, compose_sbom(self._project, resolved.stage, root, layers, config))
        composition = Composition(
            stage=resolved.stage, root=root, layers=layers, config=config, prefer=prefer, args=resolved.args,
            gpu=resolved.gpu,
        )  # fmt: skip
        if len(composition.specs) > self._project.max_layers:
            raise DefinitionError(
                f"{resolved.stage.file}: the image would have {len(composition.specs)} layers, "
                f"more than {self._project.max_layers}",
                hint="raise `heavy`, or lower `bins`, in [tool.buildkit]",
            )
        return composition

    def _own_layers(self, resolved: ResolvedStage) -> tuple[Spec, ...]:
        """Return the layers above the root: models alone of an image of models, links to them where it is mounted."""
        if resolved.stage.models_of:
            return self._mounted(resolved)
        layers = [spec for part in resolved.parts for spec in self._layers_of(part)]
        if models := self._mounted(resolved):
            layers = [spec for spec in layers if spec.kind is not Kind.MODEL]
            layers.append(link_models(resolved.stage, models, self._project.stored))
        if any(part.serve for part in resolved.parts):
            from buildkit.plan.serving import compose_serving  # few images serve models by Triton

            layers += compose_serving(resolved, self._checkout, self._project)
        if (tuned := compose_framework(resolved, layers, self._project)) is not None:
            layers.append(tuned)
        return tuple(layers)

    def _mounted(self, resolved: ResolvedStage) -> tuple[Spec, ...]:
        """Return the layers of models that are an image of their own, which this one is or mounts; none for others."""
        parts = resolved.parts if resolved.stage.models_of or resolved.models_stage else ()
        return tuple(spec for part in parts if part.models for spec in self._models(part, part.models))

    def _check_agreement(self, resolved: ResolvedStage) -> None:
        """Raise DefinitionError if the locks of one image pin different versions of a project."""
        locks = dict.fromkeys(lock for part in resolved.parts for lock in part.wheels)
        if locks:
            _ = self._python  # without its lock, those of wheels are stale, too: this is the better message
        versions: dict[str, str] = {}
        for lock in locks:
            for artifact in self._checkout.artifacts(lock):
                if versions.setdefault(artifact.name, artifact.version) != artifact.version:
                    # slow to load and seldom needed (markers)
                    from buildkit.locks.requirements_txt import check_agreement

                    problems = check_agreement({lock: self._checkout.pins(lock) for lock in locks})
                    what = f"has {artifact.name} {artifact.version}, another lock {versions[artifact.name]}"
                    problems = problems or (Problem(file=lock, what=what, hint="run: nox -s lock"),)
                    raise DefinitionError.of(list(problems))

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
        """The root whose interpreter compiles bytecode: the one of this machine's processor, if it has the same Python.

        Bytecode depends on the release of Python, and not on the processor.
        """
        native = self._of_arch(self._project.host).bytecode_root
        return native if is_same_python(native, self.bytecode_root, self._project) else self.bytecode_root

    def _of_arch(self, arch: str) -> Composer:
        is_other = arch != self._project.target.arch and arch in self._project.arches
        return self._peer(arch) if self._peer and is_other else self

    @cached_property
    def bytecode_root(self) -> tuple[Spec, ...]:
        """The root whose Python bytecode is for, with the images' own Python on it if there is one; recipes name it."""
        name = self._project.bytecode_root
        if name not in self._graph.stages:
            raise DefinitionError(
                f"bytecode is to be compiled, but there is no stage `{name}` to do it in",
                hint="name one by `bytecode-root`, or say `bytecode = false`, in [tool.buildkit]",
            )
        chain = self._roots.chain(self._graph.resolve(name))
        if not chain:
            raise DefinitionError(
                f"bytecode is to be compiled in `{name}`, but that stage has no root",
                hint="name another by `bytecode-root`, or say `bytecode = false`, in [tool.buildkit]",
            )
        return (*chain, *self._python[:1])

    def _layers_of(self, stage: Stage) -> tuple[Spec, ...]:
        if stage.name not in self._own:
            models = self._models(stage, stage.models) if stage.models else ()
            taken = step_names(stage)
            own: list[Spec] = []
            for spec in (*self._wheels(stage), *models, *self._files(stage)):
                taken.append(distinct(spec.name, taken))  # a wheel and a folder may have the same name
                own.append(replace(spec, name=taken[-1]))
            self._own[stage.name] = tuple(own)
        return self._own[stage.name]

    def _wheels(self, stage: Stage) -> Iterator[Spec]:
        if not stage.wheels:
            return
        yield from self._python
        yield self._prefix(stage)
        artifacts = {a.name: a for lock in stage.wheels for a in self._checkout.artifacts(lock)}
        _check_known(stage, "wheels.prefer", "no lock of this stage has the package", stage.prefer, artifacts)
        groups = group_wheels(
            tuple(artifacts.values()),
            heavy=self._project.heavy,
            bins=self._project.bins,
            apart={*self._own_packages(stage), *stage.prefer},
        )
        for name, members in groups:
            yield self._wheel_layer(stage, name, members)

    @cached_property
    def _python(self) -> tuple[Spec, ...]:
        """The layers of a Python that is not the root's: its files, and their bytecode."""
        target = self._project.target
        if not target.standalone:
            return ()
        from buildkit.plan.python_layers import compose_python  # most projects have the root's Python

        return compose_python(self._checkout.python(), self._project)

    def _own_packages(self, stage: Stage) -> frozenset[str]:
        """Return the project itself and its workspace's members: they change with every commit, and others do not."""
        locks = [choice.id for choice in stage.choices]
        return frozenset(a.name for lock in locks for a in self._checkout.artifacts(lock) if a.path)

    def _prefix(self, stage: Stage) -> Spec:
        target = self._project.target
        recipe, key = make_recipe(
            Kind.PREFIX,
            prefix=target.prefix,
            interpreter=target.interpreter,
            python=target.python,
            **({"site_packages": "system"} if target.sees_system else {}),
            **self._project.stored,
        )
        history = f"virtual environment {target.prefix} of Python {target.minor}"
        spec = make_spec(stage, "", Kind.PREFIX, recipe, key, work=PackPrefix(), history=history)
        return replace(spec, name=target.prefix)  # all stages share one

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
            wheels=[make_wheel_recipe(a, builds.get(a.name)) for a in members],
            **self._project.stored,
        )
        history = "wheels: " + ", ".join(f"{a.name} {a.version}" for a in members)
        work = PackWheels(wheels=members, compiled=compiled)
        spec = make_spec(stage, name, Kind.WHEELS, recipe, key, work=work, history=history)
        return replace(spec, weight=_UNPACK_RATIO * sum(a.size for a in members), rate=spec.rate * len(members))

    def _compile(self, artifact: Artifact) -> Compile:
        tree = self._checkout.tree(artifact.path) if artifact.path else None
        source = make_source_recipe(artifact, tree)
        recipe, key = make_recipe(
            "compile",
            name=artifact.name,
            builder=[spec.key.hex for spec in self.builder.specs],
            env=dict(self.builder.config.env),
            prefix=self._project.target.prefix,  # its Python runs pip, whether an image or a package brought it
            **source,
        )
        return Compile(artifact=artifact, recipe=recipe, key=key, tree=tree)

    @cached_property
    def _bytecode(self) -> list[str] | None:
        """The identity of the compiling interpreter in recipes; None without bytecode."""
        if not self._project.bytecode:
            return None
        if pythons := find_python_pins(self.bytecode_root, self._project):
            return list(pythons)
        first = self._of_arch(self._project.arches[0]).bytecode_root if self._project.arches else ()
        same = is_same_python(first, self.bytecode_root, self._project)  # one key for all processors
        return [spec.key.hex for spec in (first if same else self.bytecode_root)]

    def _models(self, stage: Stage, models_of_stage: Models) -> Iterator[Spec]:
        models = {model.name: model for model in self._checkout.models(models_of_stage.lock)}
        _check_known(stage, "models.names", f"{models_of_stage.lock} has no model", models_of_stage.names, models)
        for name in models_of_stage.names or models:
            for layer, work in pack_model(models[name], models_of_stage.target):
                yield model_layer(stage, layer, work, self._project.stored)

    def _files(self, stage: Stage) -> Iterator[Spec]:
        for declared in stage.copy:
            tree = self._checkout.copied(stage, declared)
            copy = _placed(declared, tree)
            recipe, key = make_recipe(Kind.FILES, target=copy.target, files=tree.listing(), **self._project.stored)
            history = f"files: {tree.path} → {copy.target}"
            work = PackFiles(tree=tree, copy=copy)
            name = tree.path if copy.source.startswith(("/", "..")) else copy.source.removeprefix("./")
            spec = make_spec(stage, name, Kind.FILES, recipe, key, work=work, history=history)
            yield replace(spec, weight=sum(f.size for f in tree.files))

    def _config(self, resolved: ResolvedStage, layers: tuple[Spec, ...]) -> Config:
        image = resolved.chain[0].image if resolved.chain else ""
        base = self._checkout.image(image).ref if image else ""
        return compose_config(self._project, resolved, layers, self._mounted(resolved), base)


def _check_known(stage: Stage, key: str, what: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raise DefinitionError for each of ``names`` that is not ``known``, with the nearest of those that are."""
    problems = [
        Problem(file=stage.file, key=key, what=f"{what} `{name}`", hint=suggest_word(name, sorted(known)))
        for name in names
        if name not in known
    ]
    if problems:
        raise DefinitionError.of(problems)


def _placed(copy: Copy, tree: Tree) -> Copy:
    """Return the copy with its final target: a file keeps its name below one that ends in a slash."""
    is_file = any(file.path == "." for file in tree.files)
    keeps = is_file and copy.target.endswith("/")
    return replace(copy, target=copy.target + posixpath.basename(tree.path)) if keeps else copy
