"""Turns layers into tasks: how each kind of layer is built, and which tasks it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from buildkit.build.containers import ContainerRunner
from buildkit.build.inputs import InputTasks
from buildkit.build.layer_members import (
    choose_compression,
    member_of_sbom,
    members_of_files,
    members_of_framework,
    members_of_links,
    members_of_model,
)
from buildkit.build.layer_writer import LayerWriter, agree, write_observed
from buildkit.build.model_tasks import ModelTasks
from buildkit.build.native_facts import record_collected
from buildkit.build.recompress import recompress
from buildkit.digest import Key
from buildkit.errors import MismatchError, RemoteLostError, WheelError
from buildkit.layers.tar.member import Compression, Member, PackedLayer
from buildkit.layers.wheel.layer import layer_of_wheels
from buildkit.layers.wheel.prefix import prefix_members
from buildkit.locks.pins import Model
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.emulation import has_library, is_foreign, needs_library
from buildkit.plan.spec import (
    BuildContainerfile,
    MakeRoot,
    PackFiles,
    PackFramework,
    PackLinks,
    PackModel,
    PackPrefix,
    PackPython,
    PackSbom,
    PackServing,
    PackWheels,
    PullImage,
    RunStep,
    Spec,
)
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId, TaskKind

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit.build.model_gate import ModelGate
    from buildkit.build.planner import Planner
    from buildkit.build.wheel_gate import WheelGate
    from buildkit.tools.forked_workers import ForkedWorkers

Write = Callable[[], PackedLayer]
Contents = Sequence[tuple[str, str]] | None  # a listing, if it is known


class Executor:
    """Collects the tasks that build layers: one for each layer, download and image, however many need it.

    The composer is asked for compiler and builder only if bytecode or a wheel must be compiled. ``stage`` is the stage
    that is built, empty for none. ``packers`` pack wheels where no compiler and no stream is needed.
    """

    def __init__(
        self,
        planner: Planner,
        containers: ContainerRunner,
        gate: ModelGate,
        writer: LayerWriter,
        stage: str = "",
        packers: ForkedWorkers | None = None,
    ) -> None:
        self._context = planner.context
        self._containers = containers
        self._lookup = planner.lookup
        self._composer = planner.composer
        self._gate = gate
        self._writer = writer
        self._stage = stage
        self._packers = packers
        self._compression = Compression(self._context.project.compression)
        self.tasks: dict[TaskId, Task] = {}
        self._inputs = InputTasks(
            self._context, containers, self.tasks, lambda: planner.composer.builder, self._require_composition
        )
        require = self._require_composition
        self._models = ModelTasks(self._inputs, containers, self.tasks, planner.composer.compose, require)

    def require(self, specs: Iterable[Spec]) -> tuple[TaskId, ...]:
        """Add the tasks that build ``specs`` or fetch them from the remote cache; return the tasks to wait for."""
        layers, context = list(specs), self._context
        unknown = [spec.key for spec in layers if not context.state.is_known(spec.key)]
        found = self._lookup(unknown)
        context.state.learn_found(found)
        self._ask([key for key in unknown if key not in found])
        return tuple(self._add(spec) for spec in layers if not context.state.is_here(spec.key))

    def require_stage(self, name: str, models: Iterable[Model]) -> tuple[TaskId, ...]:
        """Add the tasks after which a stage is in local storage, and the files of models are here."""
        imported = self._require_composition(self._composer.compose(name))
        return (*imported, *(task for one in models for task in self._models.fetch(one, one.files, self._context)))

    def require_compiler(self) -> tuple[TaskId, ...]:
        """Return the task that starts the bytecode compiler."""
        chain, name = self._composer.compiler, TaskId(TaskKind.START_COMPILER)
        if name not in self.tasks:
            needs = self._require_image(chain)
            self.tasks[name] = Task(
                name="bytecode compiler",
                phase="start",
                lane=Lane.CONTAINER,
                action=lambda: self._containers.start_compiler(chain),
                needs=needs,
            )
        return (name,)

    def _ask(self, keys: Sequence[Key]) -> None:
        """Look up in the remote cache layers that only serve to build others."""
        shared = self._context.remote_cache.find_records(self._stage, keys) if keys else {}
        self._context.state.learn({key: record.result for key, record in shared.items()}, only_remote=True)

    def _add(self, spec: Spec) -> TaskId:
        name = TaskId.of_key(TaskKind.LAYER, spec.key)
        if name not in self.tasks:
            self.tasks[name] = self._pull(spec) if self._context.state.is_only_remote(spec.key) else self._task(spec)
        return name

    def _pull(self, spec: Spec) -> Task:
        """Return the task that fetches a layer's blobs from the remote cache."""
        context, key = self._context, spec.key

        def action() -> Outcome:
            with context.blobs.building(key, context.stop.is_set):
                found = self._lookup([key])
                size = 0 if found else self._fetch(spec)
                # if another process was quicker, its blobs may differ from those of the remote cache
                context.state.learn(found or {key: context.state.results[key]})
                context.tally.add(fetched=size)
                return Outcome(size=size, note="fetched by another build" if found else "")

        return Task(name=spec.name, phase="pull", lane=Lane.NET, action=action)

    def _fetch(self, spec: Spec) -> int:
        context, key = self._context, spec.key
        try:
            record, fetched = context.remote_cache.fetch_layer(key, context.blobs, self._writer.open_tree_of(spec))
        except RemoteLostError:
            context.state.lose(key)  # so that this build or the next plan builds it
            context.ledger.forget_remote_layer(key)
            raise
        context.ledger.add_remote_layer(spec, record.result, record.path_prefixes)
        if fetched.contents is not None:
            context.ledger.layers.add_contents(key, fetched.contents)
        return fetched.size

    def _task(self, spec: Spec) -> Task:  # noqa: C901 - a case for each kind
        work, project = spec.work, self._context.project
        match work:
            case MakeRoot():
                return self._root(spec, work)
            case PullImage():
                return self._simple(spec, "pull", Lane.NET, lambda: self._containers.pull(spec, work))
            case BuildContainerfile() | RunStep():
                return self._in_containers(spec, work)
            case PackPython():
                return self._python(spec, work)
            case PackPrefix():
                return self._packing(spec, "pack", self._layer(spec, lambda: prefix_members(project.target)))
            case PackWheels():
                return self._wheels(spec, work)
            case PackModel():
                return self._model(spec, work)
            case PackFiles():
                return self._packing(spec, "pack", self._layer(spec, lambda: members_of_files(work, project.folder)))
            case PackLinks():
                return self._packing(spec, "pack", self._layer(spec, lambda: members_of_links(work)))
            case PackFramework():
                return self._packing(spec, "pack", self._layer(spec, lambda: members_of_framework(work)))
            case PackServing():
                return self._serving(spec, work)
            case PackSbom():
                return self._packing(
                    spec, "pack", self._layer(spec, lambda: member_of_sbom(work, project.target.deb_arch))
                )

    # dependencies of each kind of layer

    def _in_containers(self, spec: Spec, work: BuildContainerfile | RunStep) -> Task:
        if isinstance(work, RunStep):
            below = self._require_image(work.chain)
            return self._simple(spec, "run", Lane.CONTAINER, lambda: self._containers.run_step(spec, work), below)
        from buildkit.build.containerfile_root import check_heredocs  # few roots are made so

        check_heredocs(work)
        needs = tuple(task for _, image in work.images for task in self._require_base(image))
        return self._simple(spec, "build", Lane.CONTAINER, lambda: self._containers.build(spec, work), needs)

    def _python(self, spec: Spec, work: PackPython) -> Task:
        minor = self._context.project.target.minor
        fetched = self._inputs.fetch_python(work.archive)
        compiler = self.require_compiler() if work.bytecode else ()

        def members() -> Iterator[Member]:
            from buildkit.layers.python_archive import bytecode_members, python_members

            found = python_members(self._inputs.python_path(work.archive), minor, work.folder)
            return bytecode_members(found, self._containers.compiler) if work.bytecode else found

        needs = (*filter(None, [fetched]), *compiler)
        return self._packing(spec, "pack", self._layer(spec, members), needs, total=spec.weight)

    def _root(self, spec: Spec, work: MakeRoot) -> Task:
        project, composer = self._context.project, self._composer
        borrows = is_foreign(work.arch, project) and project.bytecode and needs_library(spec)
        python = composer.compiler[0] if borrows and has_library(spec, composer, project) else None
        needs = self.require((python,)) if python else ()
        return self._packing(spec, "root", lambda: self._containers.make_root(spec.name, work, python), needs)

    def _wheels(self, spec: Spec, work: PackWheels) -> Task:
        context = self._context
        fetched = [self._inputs.fetch(artifact) for artifact in work.wheels if artifact.is_wheel]
        compiled = [self._inputs.compile(item) for item in work.compiled]
        bytecode = context.project.bytecode
        compiler = self.require_compiler() if bytecode else ()
        by_name = {item.artifact.name: item for item in work.compiled}

        def write() -> PackedLayer:
            paths = [self._inputs.wheel_path(artifact, by_name.get(artifact.name)) for artifact in work.wheels]
            with context.files.unchanged(paths) as settle:
                self._wheel_gate.check(paths)
                if self._packers:
                    return self._pack_apart(self._packers, spec, paths)
                used = self._containers.compiler if bytecode else None
                members = layer_of_wheels(paths, context.project.target, used)
                return self._write(spec, members, self._compression, settle)

        needs = (*filter(None, [*fetched, *compiled]), *compiler)
        return self._packing(spec, "pack", write, needs, total=spec.weight)

    def _pack_apart(self, packers: ForkedWorkers, spec: Spec, wheels: Sequence[Path]) -> PackedLayer:
        """Pack a layer of wheels in another process."""
        from buildkit.build.wheel_packing import WheelPacking, pack_apart

        context, writer = self._context, self._writer
        packing = WheelPacking(
            wheels=tuple(wheels),
            target=context.project.target,
            compression=self._compression,
            cache=context.blobs.folder,
            store=writer.store.folder if writer.store else None,
            compress=writer.compress,
        )
        packed, facts = pack_apart(packers, packing, spec.weight, context.progress(spec.name))
        record_collected(context.ledger, packed.digest, facts)
        return packed

    def _model(self, spec: Spec, work: PackModel) -> Task:
        model = work.model
        fetched = self._models.fetch(model, work.files, self._context)

        def write() -> PackedLayer:
            opened = self._inputs.open_model(model)
            try:
                find_file = partial(self._inputs.find_model_file, model)
                compression = choose_compression(work, opened, find_file, self._compression)
                members = members_of_model(work, opened, find_file)
                return self._write(spec, members, compression, lambda: self._gate.settle(spec))
            except (MismatchError, WheelError):
                # a damaged download is the better error: planning again repairs it
                self._inputs.check_downloads(model, work.files)
                raise

        return self._packing(spec, "pack", write, self._scanned(spec, work, fetched), total=spec.weight)

    def _serving(self, spec: Spec, work: PackServing) -> Task:
        from buildkit.build.serving import graphs_of, members_of_serving  # few images serve models by Triton

        graphs = tuple(graphs_of(work))
        needs = dict.fromkeys(
            task for one in graphs for task in self._models.fetch(one.model, [one.file], self._context)
        )
        write = self._layer(spec, lambda: members_of_serving(work, self._inputs.open_model))
        return self._packing(spec, "pack", write, tuple(needs))

    @cached_property
    def _wheel_gate(self) -> WheelGate:
        from buildkit.build.wheel_gate import WheelGate  # a build that packs no wheel does not load it

        return WheelGate(self._context, self._packers.run) if self._packers else WheelGate(self._context)

    def _scanned(self, spec: Spec, work: PackModel, needs: tuple[TaskId, ...]) -> tuple[TaskId, ...]:
        """Return the tasks to wait for, so that every file of a model is in the cache and passed the scan."""
        task, name = self._gate.task(spec, work, needs), TaskId.of_key(TaskKind.SCAN, spec.key)
        if task is None:
            return needs
        self.tasks[name] = task
        return (name,)

    def _require_image(self, chain: tuple[Spec, ...]) -> tuple[TaskId, ...]:
        """Return the task that imports a root into local storage, so that containers can start from it."""
        return self._into_storage(chain[-1].name, chain[-1].key, chain, lambda: self._containers.ensure_image(chain))

    def _require_composition(self, whole: Composition) -> tuple[TaskId, ...]:
        """Return the task that imports a whole stage."""
        return self._into_storage(
            whole.stage.name, whole.key, whole.specs, lambda: self._containers.ensure_composition(whole)
        )

    def _require_base(self, image: Spec) -> tuple[TaskId, ...]:
        """Return the task that imports the image under a Containerfile, with all of its config."""
        key = Key.of(f"base {image.key.hex}".encode())
        return self._into_storage(image.name, key, (image,), lambda: self._containers.ensure_base(image))

    def _into_storage(
        self, name: str, key: Key, specs: Iterable[Spec], ensure: Callable[[], int]
    ) -> tuple[TaskId, ...]:
        task = TaskId.of_key(TaskKind.IMPORT, key)
        if task not in self.tasks:
            needs = self.require(specs)
            self.tasks[task] = Task(
                name=f"{name} into storage",
                phase="import",
                lane=Lane.CONTAINER,
                action=lambda: Outcome(size=ensure()),
                needs=needs,
            )
        return (task,)

    # writing

    def _layer(self, spec: Spec, members: Callable[[], Iterator[Member]]) -> Write:
        return lambda: self._write(spec, members(), self._compression)

    def _write(
        self, spec: Spec, members: Iterator[Member], compression: Compression, settle: Callable[[], None] = agree
    ) -> PackedLayer:
        """Write a layer, which is kept if ``settle`` raises nothing."""
        with self._writer.open(compression, key=spec.key) as to:
            packed, facts = write_observed(members, to, self._context.progress(spec.name), settle)
        record_collected(self._context.ledger, packed.digest, facts)
        return packed

    def _packing(
        self, spec: Spec, phase: str, write: Write, needs: tuple[TaskId, ...] = (), total: int | None = None
    ) -> Task:
        def build() -> tuple[LayerResult, Contents]:
            packed = write()
            self._context.record_compression(packed)
            return LayerResult(blobs=(Blob.of(packed),)), packed.contents

        return self._simple(spec, phase, Lane.CPU, build, needs, total)

    def _simple(
        self,
        spec: Spec,
        phase: str,
        lane: Lane,
        build: Callable[[], tuple[LayerResult, Contents]],
        needs: tuple[TaskId, ...] = (),
        total: int | None = None,
    ) -> Task:
        def action() -> Outcome:
            with self._context.blobs.building(spec.key, self._context.stop.is_set):
                found = self._lookup([spec.key]).get(spec.key)
                if found is not None:  # another process built it meanwhile
                    self._context.state.learn_found({spec.key: found})
                    return Outcome(note="built by another build")
                return self._record(spec, build)

        return Task(name=spec.name, phase=phase, lane=lane, action=action, needs=needs, total=total)

    def _record(self, spec: Spec, build: Callable[[], tuple[LayerResult, Contents]]) -> Outcome:
        began = time.monotonic()
        result, owned = recompress(self._context, spec, compress=self._writer.compress) or build()
        result = replace(result, seconds=time.monotonic() - began)
        self._context.ledger.add_layer(spec, result, owned)
        self._context.state.learn_built(spec, result)
        size = sum(blob.size for blob in result.blobs)
        self._context.tally.add(built=size)
        return Outcome(size=size)
