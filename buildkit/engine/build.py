"""One build from stage names to reports: compose, plan, realise, assemble, deliver."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from buildkit.digest import Digest, Key
from buildkit.engine.assemble import assemble, check_collisions
from buildkit.engine.deliver import Stored, import_image
from buildkit.engine.main import BuildOptions
from buildkit.engine.planning import Planner, open_planner, shipping
from buildkit.engine.scheduler import Lane, interruptible, run_tasks
from buildkit.errors import LostError
from buildkit.events import Note, StepFinished, StepStarted
from buildkit.oci.blob import Made
from buildkit.oci.image import Image
from buildkit.plan.plan import Plan, Source
from buildkit.plan.spec import PackWheels
from buildkit.report.summary import LayerLine, Report, print_report
from buildkit.report.view import open_view

_DOWNLOADS = 8


def build_stages(folder: Path, names: tuple[str, ...], options: BuildOptions) -> list[Report]:
    """Build the stages (those that ship, for none), print what was done, and return a report of each.

    Raises DefinitionError or BuildError; then cache and storage are as they were, but for layers that were
    finished before the failure, which the next build uses.
    """
    with (
        open_view(sys.stderr) as say,
        open_planner(folder, say, options.jobs, frozen=options.frozen) as planner,
        interruptible(),
    ):
        reports = [_Build(planner, options).run(name) for name in names or shipping(planner.graph)]
    for report in reports:
        print_report(report, sys.stderr)
    return reports


class _Build:
    """The build of one stage."""

    def __init__(self, planner: Planner, options: BuildOptions) -> None:
        self._planner = planner
        self._shop = planner.shop
        self._options = options
        self._phases: dict[str, float] = {}
        self._began = time.monotonic()
        self._started = time.time()
        self._before = planner.shop.tally.fetched, planner.shop.tally.built

    def run(self, name: str) -> Report:
        try:
            return self._run(name, storage=not self._options.no_import)
        except LostError as error:
            self._shop.say(Note(text=f"{error.message}; planning again", warning=True))
            return self._run(name, storage=False)

    def _run(self, name: str, *, storage: bool) -> Report:
        """Plan and act; without ``storage`` no layer is taken to be there, so that all blobs are in the cache."""
        with self._phase("plan"):
            planned = self._planner.plan(name, storage=storage)
        plan, shop = planned.plan, self._shop
        self._take_over(plan)
        if plan.missing:
            self._realise(plan)
        with self._phase("assemble"):
            check_collisions(plan.composition, shop.ledger, shop.blobs)
            composed, arch = plan.composition, shop.project.target.deb_arch
            image = assemble(composed.specs, composed.config, shop.made, arch)
        imported = self._deliver(image, planned.ref, planned.stored)
        report = Report(
            stage=name,
            image=planned.ref,
            digest=str(Digest.of(image.docker_manifest())),
            seconds=time.monotonic() - self._began,
            phases=self._phases,
            layers=tuple(self._lines(plan, shop.made)),
            fetched=shop.tally.fetched - self._before[0],
            built=shop.tally.built - self._before[1],
            imported=imported,
            delivered=not self._options.no_import,
        )
        self._note_use(plan)
        if plan.missing or imported:
            shop.ledger.add_build(report.as_json(), self._started)
        return report

    def _take_over(self, plan: Plan) -> None:
        for entry in plan.missing:
            self._shop.made.pop(entry.spec.key, None)  # only another stage's image in storage had it
        self._shop.made.update({e.spec.key: e.made for e in plan.entries if e.made is not None})

    def _realise(self, plan: Plan) -> None:
        from buildkit.engine.boxes import open_boxes
        from buildkit.engine.realise import Realiser

        shop = self._shop
        shop.blobs.sweep()
        with open_boxes(shop) as boxes:
            realiser = Realiser(shop, boxes, self._planner.lookup, self._planner.composer)
            realiser.want(entry.spec for entry in plan.missing)
            places = {Lane.CPU: self._options.jobs, Lane.NET: _DOWNLOADS, Lane.BOX: 1}
            spent = run_tasks(realiser.tasks, places, shop.say, shop.stop)
        for phase, seconds in spent.items():
            self._phases[phase] = self._phases.get(phase, 0.0) + seconds

    def _deliver(self, image: Image, ref: str, stored: Stored | None) -> int:
        if self._options.no_import or (stored is not None and stored.manifest == image.docker_manifest()):
            return 0
        say = self._shop.say
        with self._phase("import"):
            began = time.monotonic()
            say(StepStarted(step=ref, phase="import"))
            size = import_image(image, ref, self._shop.blobs, map(self._shop.project.ref, self._planner.graph.stages))
            say(StepFinished(step=ref, phase="import", seconds=time.monotonic() - began, size=size))
        return size

    def _lines(self, plan: Plan, made: Mapping[Key, Made]) -> Iterator[LayerLine]:
        for entry in plan.entries:
            spec = entry.spec
            found = entry.source is Source.BUILT and spec.key in self._shop.tally.found  # by another process
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

    def _note_use(self, plan: Plan) -> None:
        """Layers were used, and what built layers were made of."""
        ledger, works = self._shop.ledger, [entry.spec.work for entry in plan.missing]
        ledger.touch([entry.spec.key for entry in plan.entries])
        wheels = [work for work in works if isinstance(work, PackWheels)]
        ledger.touch_wheels([item.key for work in wheels for item in work.compiled])
        ledger.touch_downloads([a.sha256 for work in wheels for a in work.wheels if a.sha256 is not None])

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + time.monotonic() - began
