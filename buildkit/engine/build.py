"""One build from stage names to reports: compose, plan, realise, assemble, deliver."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from buildkit.declare.graph import Graph, load_graph
from buildkit.declare.project import load_project
from buildkit.digest import Digest, Key
from buildkit.engine.assemble import assemble, check_collisions
from buildkit.engine.checkout import DiskCheckout
from buildkit.engine.deliver import Stored, find_stored, import_image
from buildkit.engine.main import BuildOptions
from buildkit.engine.scheduler import Lane, interruptible, run_tasks
from buildkit.engine.shop import Shop, open_shop
from buildkit.errors import DefinitionError
from buildkit.events import StepFinished, StepStarted
from buildkit.oci.blob import Made
from buildkit.oci.image import Image
from buildkit.plan.compose import Composer
from buildkit.plan.plan import Plan, Source, make_plan
from buildkit.report.summary import LayerLine, Report, print_report
from buildkit.report.view import open_view

_DOWNLOADS = 8


def build_stages(folder: Path, names: tuple[str, ...], options: BuildOptions) -> list[Report]:
    """Build the stages (those that ship, for none), print what was done, and return a report of each.

    Raises DefinitionError or BuildError; then cache and storage are as they were, but for layers that were
    finished before the failure, which the next build uses.
    """
    project = load_project(folder)
    graph = load_graph(folder)
    chosen = names or _shipping(graph)
    with open_view(sys.stderr) as say, open_shop(project, say, options.jobs) as shop, interruptible():
        checkout = DiskCheckout(project, graph, shop.index, say, frozen=options.frozen)
        composer = Composer(project, graph, checkout)
        reports = [_Build(shop, composer, graph.stages, options).run(name) for name in chosen]
    for report in reports:
        print_report(report, sys.stderr)
    return reports


def _shipping(graph: Graph) -> tuple[str, ...]:
    names = tuple(name for name, stage in graph.stages.items() if stage.ships)
    if not names:
        raise DefinitionError("no stage ships", hint="say `ships = true` in a stage file, or build one by name")
    return names


class _Build:
    """The build of one stage."""

    def __init__(self, shop: Shop, composer: Composer, stages: Iterable[str], options: BuildOptions) -> None:
        self._shop = shop
        self._stages = stages
        self._composer = composer
        self._options = options
        self._phases: dict[str, float] = {}
        self._began = time.monotonic()
        self._started = time.time()

    def run(self, name: str) -> Report:
        ref = self._shop.project.ref(name)
        plan, stored = self._plan(name, ref)
        fetched, built = self._shop.tally.fetched, self._shop.tally.built
        if plan.missing:
            self._realise(plan)
        made = self._shop.made
        with self._phase("assemble"):
            check_collisions(plan.composition, self._shop.ledger, self._shop.blobs)
            composed, arch = plan.composition, self._shop.project.target.deb_arch
            image = assemble(composed.specs, composed.config, made, arch)
        imported = self._deliver(image, ref, stored)
        report = Report(
            stage=name,
            image=ref,
            digest=str(Digest.of(image.docker_manifest())),
            seconds=time.monotonic() - self._began,
            phases=self._phases,
            layers=tuple(self._lines(plan, made)),
            fetched=self._shop.tally.fetched - fetched,
            built=self._shop.tally.built - built,
            imported=imported,
            delivered=not self._options.no_import,
        )
        self._shop.ledger.touch([entry.spec.key for entry in plan.entries])
        if plan.missing or imported:
            self._shop.ledger.add_build(report.as_json(), self._started)
        return report

    def _plan(self, name: str, ref: str) -> tuple[Plan, Stored | None]:
        with self._phase("plan"), ThreadPoolExecutor(1) as pool:
            asked = None if self._options.no_import else pool.submit(find_stored, ref)  # while we read locks
            composition = self._composer.compose(name)
            known = self._shop.ledger.find(spec.key for spec in composition.specs)
            stored = asked.result() if asked else None
            has = self._shop.blobs.has
            plan = make_plan(
                composition,
                known,
                lambda blob: has(blob.digest, blob.size),
                stored.diff_ids if stored else (),
                self._shop.ledger.last_recipes(name, ref) if len(known) < len(composition.specs) else {},
            )
        for entry in plan.missing:
            self._shop.made.pop(entry.spec.key, None)  # only another stage's image in storage had it
        self._shop.made.update({e.spec.key: e.made for e in plan.entries if e.made is not None})
        return plan, stored

    def _realise(self, plan: Plan) -> None:
        from buildkit.engine.boxes import open_boxes
        from buildkit.engine.realise import Realiser

        shop = self._shop
        shop.blobs.sweep()
        with open_boxes(shop) as boxes:
            realiser = Realiser(shop, boxes, self._lookup, self._composer)
            realiser.want(entry.spec for entry in plan.missing)
            places = {Lane.CPU: self._options.jobs, Lane.NET: _DOWNLOADS, Lane.BOX: 1}
            spent = run_tasks(realiser.tasks, places, shop.say, shop.stop)
        for phase, seconds in spent.items():
            self._phases[phase] = self._phases.get(phase, 0.0) + seconds

    def _lookup(self, keys: Iterable[Key]) -> Mapping[Key, Made]:
        known = self._shop.ledger.find(keys)
        has = self._shop.blobs.has
        return {key: made for key, made in known.items() if all(has(b.digest, b.size) for b in made.blobs)}

    def _deliver(self, image: Image, ref: str, stored: Stored | None) -> int:
        if self._options.no_import or (stored is not None and stored.manifest == image.docker_manifest()):
            return 0
        say = self._shop.say
        with self._phase("import"):
            began = time.monotonic()
            say(StepStarted(step=ref, phase="import"))
            size = import_image(image, ref, self._shop.blobs, map(self._shop.project.ref, self._stages))
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

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + time.monotonic() - began
