"""One build from stage names to reports: compose, plan, realise, assemble, deliver."""

from __future__ import annotations

import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.assemble import assemble, check_collisions
from buildkit.build.build_record import record_build
from buildkit.build.context import BuildContext
from buildkit.build.deliver import Stored, import_image
from buildkit.build.native_check import keep_natives, warning_of_start
from buildkit.build.planner import Planner, open_planner, shipping
from buildkit.build.preimport import Preimport
from buildkit.cli.options import BuildOptions, open_remote_cache
from buildkit.digest import Digest, Key
from buildkit.errors import BlobsMissingError, BuildError, BuildkitError, DamagedError, LostError, RemoteLostError
from buildkit.events import Note, StepFailed, StepFinished, StepStarted
from buildkit.oci.blob import LayerResult
from buildkit.oci.image import Image
from buildkit.plan.plan import Plan, PlannedLayer, Source
from buildkit.plan.spec import Kind, PackWheels, Spec
from buildkit.report.build_report import LayerLine, Report, print_report, print_timings
from buildkit.report.text import format_count
from buildkit.report.view import open_view
from buildkit.tasks.scheduler import Lane, Task, run_tasks

if TYPE_CHECKING:
    from concurrent.futures import Future

    from buildkit.build.attestations import AttestationRequest
    from buildkit.oci.reference import Ref
    from buildkit.remote.push import Push

_DOWNLOADS = 8
_UPLOADS = 2  # beside packing
_ATTEMPTS = 5


def build_stages(folder: Path, names: tuple[str, ...], options: BuildOptions) -> list[Report]:
    """Build the stages (those that ship, for none), print what was done, and return a report of each.

    Raises DefinitionError or BuildError; then cache and storage are as they were, but for layers that were
    finished before the failure, which the next build uses.
    """
    saying = _open_saying(options)
    with (
        open_view(sys.stderr) as emit,
        open_planner(folder, emit, frozen=options.frozen) as planner,
    ):
        _sweep(planner.context)
        chosen = names or shipping(planner.graph)
        open_remote_cache(planner.context, options.share)
        targets = {name: options.targets(name, several=not names) for name in chosen}
        reports = [_Build(planner, options, targets[name], saying).run(name) for name in chosen]
    for report in reports:
        print_report(report, sys.stderr)
        if options.timings:
            print_timings(report, sys.stderr)
    return reports


def _open_saying(options: BuildOptions) -> AttestationRequest | None:
    """What to say of what is pushed; a key that cannot be used is found out before anything is built."""
    if not (options.attest or options.sign_by):
        return None
    from buildkit.build.attestations import open_attestations

    return open_attestations(attest=options.attest, key=options.sign_by)


def _sweep(context: BuildContext) -> None:
    """Remove what killed builds left: temporary files, and containers."""
    context.blobs.sweep_quickly()

    def remove(names: Sequence[str]) -> frozenset[str]:
        from buildkit.tools.buildah import remove_containers

        return remove_containers(names)

    with suppress(BuildError):  # what is wrong with storage is said by what needs it
        context.blobs.notes.sweep(remove)


class _Build:
    """The build of one stage."""

    def __init__(
        self, planner: Planner, options: BuildOptions, targets: tuple[Ref, ...], saying: AttestationRequest | None
    ) -> None:
        self._planner = planner
        self._context = planner.context
        self._options = options
        self._targets = targets
        self._saying = saying
        self._meter = planner.context.meter
        self._meter.restart()
        self._began = time.monotonic()
        self._started = time.time()
        self._before = planner.context.tally.read()
        self._storage = not options.no_import  # layers that only storage has are left there
        self._wanted: set[Key] = set()  # shared layers whose bytes are needed here, though nothing is imported
        self._told: dict[Key, PlannedLayer] = {}  # what was done for each layer, whichever plan it was done by

    def run(self, name: str) -> Report:
        """Plan and act; what turns out to be lost on the way is planned anew."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._run(name)
            except LostError as error:
                self._learn(error)
                # the lost layer may be outside the plan: a builder's layer, or the compiler's root
                self._context.state.forget_results()
        return self._run(name)

    def _learn(self, error: LostError) -> None:
        """What the next plan must do otherwise, and say so."""
        context, text = self._context, f"{error.message}; planning again"
        if isinstance(error, DamagedError):
            self._record_tombstones(error.digests)
        if isinstance(error, BlobsMissingError):
            lacking = set(error.digests)
            results = context.state.results
            where = {
                key: {blob.digest.hex for blob in result.blobs}
                for key, result in results.items()
                if context.state.is_only_remote(key)
            }
            self._wanted |= {key for key, digests in where.items() if digests & lacking}
            if lacking - set().union(*where.values()):
                self._storage = False  # only storage has those
            text = f"{self._targets[0].repository} lacks {format_count(len(lacking), 'layer')} that must be had first"
        elif not isinstance(error, RemoteLostError):
            self._storage = False
        elif error.reported:
            return
        context.emit(Note(text=text, warning=not isinstance(error, BlobsMissingError)))

    def _record_tombstones(self, digests: Container[str]) -> None:
        """Note that layers were damaged, so that it can be said why they are made anew."""
        from buildkit.store.maintenance import LedgerMaintenance

        made = {key: self._context.state.results[key] for key in self._told if self._context.state.is_known(key)}
        hurt = [key for key, known in made.items() if any(blob.digest.hex in digests for blob in known.blobs)]
        LedgerMaintenance(self._context.ledger).record_tombstones(
            [(key, self._told[key].spec.name) for key in hurt], "damaged, found by a build"
        )

    def _run(self, name: str) -> Report:
        context = self._context
        with self._meter.phase("plan"):
            planned = self._planner.plan(name, storage=self._storage)
        plan = planned.plan
        told = self._take_over(plan)
        push = self._open_push()
        with Preimport(context, plan, wanted=not self._options.no_import) as early:
            self._execute(plan, early, push)
            self._check_models(plan)
            image = self._assemble(plan)
            with warning_of_start(plan.composition, image, context) as check:
                imported = self._deliver(image, planned.ref, planned.stored)
                digest = self._hand_out(plan, image, push, check)
        moved = context.tally.read() - self._before
        report = Report(
            stage=name,
            image=planned.ref,
            digest=str(Digest.of(image.docker_manifest())),
            seconds=time.monotonic() - self._began,
            phases=self._meter.read(),
            layers=tuple(self._lines(told, context.state.results)),
            fetched=moved.fetched,
            built=moved.built,
            imported=imported,
            pushed=moved.pushed,
            pushed_as={str(ref): digest for ref in self._targets},
            delivered=not self._options.no_import,
        )
        record_build(context.ledger, told, report, self._started)
        return report

    def _assemble(self, plan: Plan) -> Image:
        context, composed = self._context, plan.composition
        with self._meter.phase("assemble"):
            check_collisions(composed, context.ledger, context.blobs, self._listing)
            arch = context.project.target.deb_arch
            return assemble(
                composed.specs, composed.config, context.state.results, arch, most=context.project.max_layers
            )

    def _hand_out(self, plan: Plan, image: Image, push: Push | None, check: Future[None]) -> str:
        """Share and push; returns the digest of the manifest that was pushed, empty for none."""
        with self._remote_cache(plan, check):
            digest = self._push(image, push) if push else ""
        if push:
            self._say_of(plan, image)
        return digest

    def _remote_cache(self, plan: Plan, check: Future[None]) -> AbstractContextManager[None]:
        if not self._context.remote_cache.writes:
            return nullcontext()
        from buildkit.build.uploads import open_cache_export

        works = [spec.work for spec in plan.composition.layers if isinstance(spec.work, PackWheels)]
        specs = (*plan.composition.specs, *self._planner.tools(works))
        built = self._context.state.built_now.values()
        return open_cache_export(self._planner, check).publishing(plan.composition.stage.name, specs, built)

    def _upward(self, building: Mapping[str, Spec], push: Push | None) -> Iterator[tuple[str, Task]]:
        """What goes up to registries while layers are built, by their tasks."""
        if push:
            yield from push.tasks(building)
        if self._context.remote_cache.writes:
            from buildkit.build.uploads import open_cache_export

            yield from open_cache_export(self._planner).early_tasks(building)

    def _take_over(self, plan: Plan) -> Plan:
        """What the plan knows is known from now on; returns it as it will be told, earlier plans included."""
        context = self._context
        for entry in plan.entries:
            key, made, shared = entry.spec.key, entry.made, entry.source is Source.SHARED
            if shared or made is None or key not in self._told:
                self._told[key] = entry
            if made is None:
                context.state.lose(key)  # the remote cache lost it, or only another stage's image in storage had it
                continue
            newly_remote = shared and not context.state.is_only_remote(key)
            context.state.learn({key: made}, only_remote=shared)
            if newly_remote:
                self._note_shared(entry.spec, made)
        return replace(plan, entries=tuple(self._told[entry.spec.key] for entry in plan.entries))

    def _note_shared(self, spec: Spec, made: LayerResult) -> None:
        remote_cache = self._context.remote_cache
        entry, about = remote_cache.ask("", [spec.key])[spec.key], (spec.kind, spec.name, spec.recipe)
        self._context.ledger.add_shared(spec.key, *about, made, entry.claims, only_at=remote_cache.name)
        keep_natives(self._context, entry)

    def _listing(self, key: Key) -> list[tuple[str, str]]:
        try:
            return self._context.remote_cache.listing(key)
        except RemoteLostError:
            self._context.ledger.forget_shared(key)
            raise

    def _execute(self, plan: Plan, early: Preimport, push: Push | None) -> None:
        """Build what is missing, and fetch what is shared where its bytes are needed."""
        context = self._context
        needed = [e.spec for e in plan.entries if e.source is Source.BUILT or self._must_fetch(e)]
        if not needed:
            return
        from buildkit.build.containers import open_containers
        from buildkit.build.executor import Executor

        context.blobs.sweep()
        with open_containers(context) as containers:
            stage = plan.composition.stage.name
            executor = Executor(context, containers, self._planner.lookup, self._planner.composer, stage)
            executor.require(needed)
            making = executor.tasks
            building = {name: e.spec for e in plan.missing if (name := f"layer:{e.spec.key.hex}") in making}
            tasks = making | dict(early.tasks(making)) | dict(self._upward(building, push))
            places = {Lane.CPU: self._options.jobs, Lane.NET: _DOWNLOADS, Lane.UP: _UPLOADS, Lane.BOX: 1}
            run_tasks(tasks, places, context.emit, context.stop, self._meter)

    def _check_models(self, plan: Plan) -> None:
        """Hold models of layers that are reused against the rules of today; raises ModelError."""
        reused = [e.spec for e in plan.entries if e.source is not Source.BUILT and e.spec.kind is Kind.MODEL]
        if reused:
            from buildkit.build.model_gate import Gate

            with self._meter.phase("scan"):
                Gate(self._context).check_reused(reused)

    def _must_fetch(self, entry: PlannedLayer) -> bool:
        return entry.source is Source.SHARED and (not self._options.no_import or entry.spec.key in self._wanted)

    def _open_push(self) -> Push | None:
        if not self._targets:
            return None
        from buildkit.build.uploads import open_push

        return open_push(self._context, self._targets)

    def _push(self, image: Image, push: Push) -> str:
        """Returns the digest of the manifest that was pushed."""
        context, ref = self._context, str(self._targets[0])
        with self._meter.phase("push"):
            began = time.monotonic()
            context.emit(StepStarted(step=ref, phase="push"))
            try:
                pushed = push.run(image)
            except BuildkitError as error:
                context.emit(StepFailed(step=ref, phase="push", message=error.message))
                raise
            context.tally.add(pushed=pushed.size)
            context.emit(StepFinished(step=ref, phase="push", seconds=time.monotonic() - began, size=pushed.size))
        context.ledger.add_remote(self._targets[0].repository, (layer.blob.digest for layer in image.layers))
        return str(pushed.digest)

    def _say_of(self, plan: Plan, image: Image) -> None:
        """Attach and sign what was asked for."""
        saying = self._saying
        if saying is None:
            return
        from buildkit.build.attestations import attach_attestations

        context, ref = self._context, str(self._targets[0])
        with self._meter.phase("attest"):
            began = time.monotonic()
            context.emit(StepStarted(step=ref, phase="attest"))
            try:
                size = attach_attestations(
                    self._planner, plan.composition, image.oci_manifest(), self._targets[0], saying
                )
            except BuildkitError as error:
                context.emit(StepFailed(step=ref, phase="attest", message=error.message))
                raise
            context.tally.add(pushed=size)
            context.emit(StepFinished(step=ref, phase="attest", seconds=time.monotonic() - began, size=size))

    def _deliver(self, image: Image, ref: str, stored: Stored | None) -> int:
        if self._options.no_import or (stored is not None and stored.manifest == image.docker_manifest()):
            return 0
        emit = self._context.emit
        with self._meter.phase("import"):
            began = time.monotonic()
            emit(StepStarted(step=ref, phase="import"))
            relatives = map(self._context.project.ref, self._planner.graph.stages)
            size = import_image(image, ref, self._context.blobs, relatives, stored)
            emit(StepFinished(step=ref, phase="import", seconds=time.monotonic() - began, size=size))
        return size

    def _lines(self, plan: Plan, made: Mapping[Key, LayerResult]) -> Iterator[LayerLine]:
        for entry in plan.entries:
            spec = entry.spec
            found = entry.source is Source.BUILT and self._context.state.was_found(spec.key)  # by another process
            built = entry.source is Source.BUILT and not found
            for blob in made[spec.key].blobs:
                yield LayerLine(
                    name=spec.name,
                    kind=spec.kind,
                    key=str(spec.key),
                    diff_id=str(blob.diff_id),
                    digest=str(blob.digest),
                    size=blob.size,
                    source=Source.CACHE if found else entry.source,
                    seconds=made[spec.key].seconds if built else 0.0,
                    why=entry.why if built else "",
                )
