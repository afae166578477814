"""The build of one stage: plan, build layers, assemble, import, publish; planned again if something is lost."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from buildkit.build.assemble import assemble
from buildkit.build.build_record import record_build, report_lines
from buildkit.build.build_request import BuildRequest, Lost, describe_loss, merge_reported
from buildkit.build.collision_sets import check_collisions
from buildkit.build.deliver import import_image
from buildkit.build.delivery import (
    Delivered,
    Delivery,
    choose_delivery,
    deliver,
    describe_import,
    distrust_trees,
    find_obstacle_of,
    importing,
    is_whole,
    uncover,
)
from buildkit.build.mounted_models import deliver_models, has_models
from buildkit.build.native_check import find_warning, native_check_in_background
from buildkit.build.native_facts import record_remote_facts
from buildkit.build.options import BuildOptions
from buildkit.build.planner import Planned, Planner
from buildkit.build.publisher import Publisher
from buildkit.digest import Digest, Key
from buildkit.errors import (
    BlobsMissingError,
    BuildkitError,
    DamagedError,
    DefinitionError,
    LostError,
    RemoteLostError,
)
from buildkit.events import Note, step
from buildkit.oci.blob import LayerResult
from buildkit.oci.image import Image
from buildkit.plan.emulation import is_foreign
from buildkit.plan.plan import LayerSource, Plan, PlannedLayer
from buildkit.plan.spec import Kind, Spec
from buildkit.report.build_report import Report

if TYPE_CHECKING:
    from buildkit.build.attestations import AttestationRequest
    from buildkit.oci.reference import Ref
    from buildkit.remote.push import Pushed
    from buildkit.tasks.scheduler import Task, Tasks
    from buildkit.tasks.task_id import TaskId

_ATTEMPTS = 5


class StageBuild:
    """One build of one stage, published under ``targets``; its time runs from the creation of this object.

    ``models`` is the report of the models that its containers mount, which were built before.
    """

    def __init__(
        self,
        planner: Planner,
        options: BuildOptions,
        targets: tuple[Ref, ...],
        attestations: AttestationRequest | None,
        models: Report | None = None,
    ) -> None:
        self._planner = planner
        self._context = planner.context
        self._options = options
        self._targets = targets
        self._attestations = attestations
        self._models = Digest.parse(next(iter(models.pushed_as.values()))) if models and models.pushed_as else None
        self._delivery = choose_delivery(options.delivery, planner.context.project)
        planner.context.meter.restart()
        self._began, self._started = time.monotonic(), time.time()
        self._moved_before = planner.context.tally.read()

    def run(self, stage: str) -> Report:
        """Build until nothing that was planned on is lost, in five attempts at most.

        Raises DefinitionError or BuildError, LostError if the last attempt lost something too.
        """
        self._planner.warn_of_gpus(stage)
        to_docker = self._delivery is Delivery.DOCKER
        request = BuildRequest(stage=stage, use_storage=not (self._options.no_import or to_docker))
        for _ in range(_ATTEMPTS - 1):
            outcome = self.attempt(request)
            if isinstance(outcome, Report):
                return outcome
            self._accept(outcome)
            request = request.after(outcome)
        outcome = self.attempt(request)
        if isinstance(outcome, Lost):
            raise outcome.error
        return outcome

    def attempt(self, request: BuildRequest) -> Report | Lost:
        """Plan the stage and carry the plan out; return the loss if something that it relied on is gone."""
        context, reported = self._context, request.reported
        try:
            with context.meter.phase("plan"):
                planned = self._planner.plan(request.stage, storage=request.use_storage)
            reported = merge_reported(reported, planned.plan)
            for layer in planned.plan.entries:
                self._learn(layer)
                if layer.source is LayerSource.CACHE and layer.spec.key in planned.shared and layer.result:
                    self._record_shared(layer.spec, layer.result)  # another cache's build left its tree
            return self._carry_out(planned, request.fetch, reported)
        except LostError as error:
            only_remote = {
                key: frozenset(blob.digest.hex for blob in result.blobs)
                for key, result in context.state.results.items()
                if context.state.is_only_remote(key)
            }
            return Lost(error=error, reported=reported, only_remote=only_remote)

    def _carry_out(self, planned: Planned, fetch: frozenset[Key], reported: Mapping[Key, PlannedLayer]) -> Report:
        plan = planned.plan
        if not plan.composition.specs:
            raise DefinitionError(
                f"{plan.composition.stage.file}: there is nothing to build: it has neither a root nor layers",
                hint="add `from`, [root], `include`, [wheels], [models] or [[copy]]",
            )
        advises = self._options.json is None
        publisher = Publisher(self._planner, plan, self._targets, self._attestations, advises=advises)
        with ExitStack() as stack:
            self._build_layers(plan, fetch, publisher, stack)
            self._check_models(plan)
            image = replace(self._assemble(plan), models=self._models)
            with native_check_in_background(plan.composition, image, self._context) as check:
                delivered = self._deliver(image, planned)
                pushed = publisher.publish(image, check)
        done = replace(plan, entries=tuple(reported[layer.spec.key] for layer in plan.entries))
        report = self._report(planned, done, image, delivered, pushed)
        record_build(self._context.ledger, done, report, self._started)
        return report

    def _report(
        self, planned: Planned, done: Plan, image: Image, delivered: Delivered, pushed: Pushed | None
    ) -> Report:
        context = self._context
        moved = context.tally.read() - self._moved_before
        return Report(
            stage=done.composition.stage.name,
            image=planned.ref,
            digest=str(Digest.of(image.docker_manifest())),
            seconds=time.monotonic() - self._began,
            phases=context.meter.read(),
            layers=tuple(report_lines(done, context.state)),
            fetched=moved.fetched,
            built=moved.built,
            imported=delivered.size,
            pushed=moved.pushed,
            pushed_as={_pushed_name(ref, pushed): str(pushed.digest) for ref in self._targets} if pushed else {},
            why_skopeo=pushed.why_skopeo if pushed else "",
            delivery=delivered.how or "",
            is_new=delivered.is_new,
            starts=image.starts,
            arch=context.project.foreign_arch,
        )

    # recovery from a loss
    def _accept(self, lost: Lost) -> None:
        """Tell the user about a loss and forget what the next plan must look up again."""
        context = self._context
        if isinstance(lost.error, DamagedError):
            self._record_tombstones(lost, lost.error.digests)
            distrust_trees(lost.error.digests, context)
        if isinstance(lost.error, BlobsMissingError):
            self._restore_blobs(lost, lost.error.digests)
        note = describe_loss(lost.error, self._targets[0].repository if self._targets else "")
        if note:
            context.emit(note)
        # all results: the lost layer may be outside the plan, in the builder or the root of the bytecode compiler
        context.state.forget_results()

    def _restore_blobs(self, lost: Lost, missing: Collection[str]) -> None:
        """Make blobs again that a registry lacks and the cache does not have any more, where the image store can."""
        from buildkit.build.make_blobs import make_blobs

        results = self._context.state.results
        specs = [layer.spec for key, layer in lost.reported.items() if key in results]
        make_blobs(self._context, (s for s in specs if any(b.digest.hex in missing for b in results[s.key].blobs)))

    def _record_tombstones(self, lost: Lost, damaged: Collection[str]) -> None:
        """Record which layers were damaged, so that the next plan can say why it builds them."""
        from buildkit.store.maintenance import LedgerMaintenance

        results = self._context.state.results
        names = [
            (key, layer.spec.name)
            for key, layer in lost.reported.items()
            if key in results and any(blob.digest.hex in damaged for blob in results[key].blobs)
        ]
        LedgerMaintenance(self._context.ledger).record_tombstones(names, "damaged, found by a build")

    # the steps of a build

    def _learn(self, layer: PlannedLayer) -> None:
        """Update the state with the planned result of a layer."""
        state, key, result = self._context.state, layer.spec.key, layer.result
        if result is None:
            state.lose(key)  # the remote cache lost it, or only another stage's image in storage had it
            return
        is_shared = layer.source is LayerSource.SHARED
        newly_shared = is_shared and not state.is_only_remote(key)
        state.learn({key: result}, only_remote=is_shared)
        if newly_shared:
            self._record_shared(layer.spec, result)

    def _record_shared(self, spec: Spec, result: LayerResult) -> None:
        context = self._context
        record = context.remote_cache.find_records("", [spec.key])[spec.key]
        context.ledger.add_remote_layer(spec, result, record.path_prefixes, only_at=context.remote_cache.name)
        record_remote_facts(context.ledger, record)
        if record.scans:
            from buildkit.build.builder_scans import record_builder_scans  # few layers hold models

            record_builder_scans(context.ledger, spec, record)

    def _build_layers(self, plan: Plan, fetch: frozenset[Key], publisher: Publisher, stack: ExitStack) -> None:
        """Build what is missing; fetch what a remote cache has where its bytes are needed here.

        What is imported early has no use once ``stack`` ends.
        """
        imports = not self._options.no_import
        needed = [
            layer.spec
            for layer in plan.entries
            if layer.source is LayerSource.BUILT
            or (layer.source is LayerSource.SHARED and (imports or layer.spec.key in fetch))
        ]
        if not needed:
            return
        self._check_emulation(plan)
        from buildkit.build.build_layers import build_layers
        from buildkit.build.layer_writer import LayerWriter
        from buildkit.build.preimport import Preimport
        from buildkit.build.wheel_collisions import wheel_comparison
        from buildkit.tasks.task_id import TaskId, TaskKind

        early = imports and self._context.image_store is None and self._delivery is not Delivery.DOCKER
        preimport = stack.enter_context(Preimport(self._context, plan, enabled=early))

        def also(tasks: Tasks) -> Tasks:
            ids = {TaskId.of_key(TaskKind.LAYER, layer.spec.key): layer.spec for layer in plan.missing}
            building = {task_id: spec for task_id, spec in ids.items() if task_id in tasks}
            compared = wheel_comparison(self._context, plan.composition, tasks)
            checked = dict([self._early_check(plan, building)]) if uploads else {}
            return compared | dict(preimport.tasks(tasks)) | dict(publisher.tasks(building)) | checked

        uploads = bool(self._targets) or self._context.remote_cache.writes
        streams = stack.enter_context(publisher.streams) if uploads else None
        store = self._context.image_store if imports or not uploads else None
        writer = LayerWriter(blobs=self._context.blobs, store=store, compress=uploads, streams=streams)
        name, jobs = plan.composition.stage.name, self._options.jobs
        build_layers(self._planner, needed, jobs, stage=name, writer=writer, also=also)

    def _early_check(self, plan: Plan, building: Iterable[TaskId]) -> tuple[TaskId, Task]:
        """Return the task that looks at native files while the last layers go up; the warning comes after it."""
        from buildkit.tasks.scheduler import Lane, Outcome, Task
        from buildkit.tasks.task_id import TaskId, TaskKind

        def action() -> Outcome:
            with suppress(BuildkitError):  # it is raised when the image is assembled, or looked at again
                find_warning(plan.composition, self._make_image(plan), self._context)
            return Outcome()

        name, needs = plan.composition.stage.name, tuple(building)
        task = Task(name=name, phase="look", lane=Lane.CPU, action=action, needs=needs, quiet=True)
        return TaskId(TaskKind.CHECK_NATIVE, name), task

    def _check_emulation(self, plan: Plan) -> None:
        if is_foreign(self._context.project.target.deb_arch, self._context.project):
            from buildkit.build.emulation_check import check_emulation  # most builds are for this machine

            check_emulation(self._planner, plan)

    def _check_models(self, plan: Plan) -> None:
        """Check models of reused layers against the present rules; raises ModelError."""
        reused = [e.spec for e in plan.entries if e.source is not LayerSource.BUILT and e.spec.kind is Kind.MODEL]
        if reused:
            from buildkit.build.model_gate import ModelGate

            ModelGate(self._context).check_reused(reused)

    def _assemble(self, plan: Plan) -> Image:
        context = self._context
        with context.meter.phase("assemble"):
            check_collisions(plan.composition, context.ledger, context.layers, self._fetch_listing)
            return self._make_image(plan)

    def _make_image(self, plan: Plan) -> Image:
        project, results, composition = self._context.project, self._context.state.results, plan.composition
        arch, most = project.target.deb_arch, project.max_layers
        return assemble(composition.specs, composition.config, results, arch, most=most)

    def _fetch_listing(self, key: Key) -> list[tuple[str, str]]:
        try:
            return self._context.remote_cache.listing(key)
        except RemoteLostError:
            self._context.ledger.forget_remote_layer(key)
            raise

    def _deliver(self, image: Image, planned: Planned) -> Delivered:
        """Put the image where podman or Docker finds it, unless it is there."""
        ref, stored, context = planned.ref, planned.stored, self._context
        if self._options.no_import:
            return Delivered()
        mounted = bool(planned.plan.composition.stage.models_of)
        is_there = stored is not None and stored.manifest == image.docker_manifest()
        if is_there and (has_models(image, context) if mounted else is_whole(image, ref, context)):
            return Delivered(how=Delivery.STORE if context.image_store else Delivery.IMPORT)
        how = self._choose_delivery(image, ref)
        phase = "import" if how is Delivery.IMPORT else "deliver"
        began = time.monotonic()
        with context.meter.phase(phase, ref) as notes, step(context.emit, ref, phase) as handle:
            if how is Delivery.IMPORT:
                relatives = map(context.project.ref, self._planner.graph.stages)
                known = stored if context.image_store is None else None
                with importing(context):
                    handle.size = import_image(image, ref, context.layers, relatives, known)
            elif how is Delivery.DOCKER:
                from buildkit.build.deliver_docker import load_into_docker

                handle.size = load_into_docker(image, ref, context.layers)
            elif mounted:
                handle.size = deliver_models(image, ref, context)
            else:
                handle.size = deliver(image, ref, context)
                uncover(image, ref, context)
            notes["xoe.bytes"] = handle.size
        if how is Delivery.IMPORT and handle.size and self._delivery is Delivery.AUTO and context.image_store is None:
            self._advise(handle.size, time.monotonic() - began)
        return Delivered(how=how, size=handle.size, is_new=how is Delivery.STORE or handle.size > 0)

    def _choose_delivery(self, image: Image, ref: str) -> Delivery:
        """Return where an image goes; if the tools could not mount it in the image store, say why it is imported."""
        context = self._context
        if self._delivery is Delivery.DOCKER:
            return Delivery.DOCKER
        if context.image_store is None:
            return Delivery.IMPORT
        if why := find_obstacle_of(image, context.image_store):
            context.emit(Note(text=f"{ref} is imported: {why}", warning=True))
        return Delivery.IMPORT if why else Delivery.STORE

    def _advise(self, imported: int, seconds: float) -> None:
        if advice := describe_import(imported, seconds):
            self._context.emit(Note(text=advice))


def _pushed_name(ref: Ref, pushed: Pushed) -> str:
    return str(ref) if ref.tag else f"{ref}@{pushed.digest}"
