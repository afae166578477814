"""``nox -s reproduce``: build a stage's layers a second time under different conditions, and compare them byte by byte.

The first side are the layers of the user's cache or of a remote cache; missing ones are built. The second side is built
from a copy of the checkout, in an empty cache that borrows only what is pinned by hash (downloads, registry images), in
a process with a different umask, environment and order of tasks. What `[[run]]` and `[apt]` steps write is not claimed
to be reproducible, so it is borrowed unless requested. A Debian root may be borrowed, too: building it takes the
archive and most of the time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext, open_context
from buildkit.build.options import RemoteCacheOptions, open_remote_cache
from buildkit.build.planner import Planner
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.errors import BuildError, LostError
from buildkit.events import step
from buildkit.layers.tar.compare import Comparison, Difference, compare_tars
from buildkit.layers.tar.decompress import inflate
from buildkit.oci.blob import Blob
from buildkit.plan.spec import Kind, PackWheels, Spec
from buildkit.report.layer_comparison import Agreement, ComparedLayer, LayerVerdict
from buildkit.report.view import open_view
from buildkit.reproduce.sandbox import (
    VARIED_VARIABLES,
    RecordingCheckout,
    copy_checkout,
    create_borrowing_cache,
    different_environment,
    different_umask,
)
from buildkit.reproduce.worker import build_in_process, build_missing
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger

if TYPE_CHECKING:
    from buildkit.tasks.trace_recorder import TraceRecorder

_TICK_SECONDS = 2.0  # resolution of the coarsest clock in an archive: zip's
STDOUT = "-"  # as ``ReproduceOptions.json``: standard output


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceOptions:
    """The session's options; ``json`` is a file, or ``-`` for standard output."""

    stage: str
    json: str = ""
    steps: bool = False
    no_root: bool = False
    cache: str = ""
    jobs: int = 2


def build_twice(folder: Path, options: ReproduceOptions, recorder: TraceRecorder | None = None) -> Agreement:
    """Build the stage's missing layers, build all layers again under different conditions, and compare the two.

    ``recorder`` gets spans of the first build, and one of the second, which is another process.
    """
    project = load_project(folder)
    with open_view(sys.stderr) as emit, open_context(project, emit) as context:
        context.meter.recorder = recorder
        open_remote_cache(context, RemoteCacheOptions(cache=options.cache, cache_read_only=True))
        return _DoubleBuild(context, options).run()


class _DoubleBuild:
    """Builds the layers of one stage twice and compares them."""

    def __init__(self, context: BuildContext, options: ReproduceOptions) -> None:
        graph = load_graph(context.project.folder)
        self._checkout = RecordingCheckout(context.project, graph, context.stat_index, context.emit)
        self._planner = Planner(context, graph, self._checkout)
        self._context = context
        self._options = options

    def run(self) -> Agreement:
        """Build twice and compare. Raises what building raises."""
        began = time.monotonic()
        context, stage, jobs = self._context, self._options.stage, self._options.jobs
        specs = self._planner.composer.compose(stage).specs
        build_missing(self._planner, specs, jobs)
        built = time.monotonic() if context.tally.read().built else 0.0
        tools = self._tools(specs)
        context.state.learn(self._planner.lookup(spec.key for spec in tools))
        jobs, umask = (jobs // 2 if jobs > 1 else 2), different_umask()
        with context.blobs.working_folder() as work:
            folder, env = self._prepare(work, specs, tools)
            time.sleep(max(0.0, built + _TICK_SECONDS - time.monotonic()))  # so that a coarse clock differs, too
            with context.meter.phase("second build"):
                build_in_process(folder, stage, env, context.emit, jobs=jobs, umask=umask)
            with context.meter.phase("compare"):
                layers = tuple(self._compare(specs, work / "cache"))
        varied = _describe_varied(env, jobs, umask)
        return Agreement(stage=stage, layers=layers, varied=varied, seconds=time.monotonic() - began)

    def _tools(self, specs: Iterable[Spec]) -> tuple[Spec, ...]:
        """Return the layers that compile for the stage: the root of the bytecode compiler, and the builder."""
        wheels = [spec.work for spec in specs if isinstance(spec.work, PackWheels)]
        compiler = self._planner.composer.compiler if wheels and self._context.project.bytecode else ()
        builder = self._planner.composer.builder.specs if any(work.compiled for work in wheels) else ()
        return (*compiler, *builder)

    def _prepare(self, work: Path, specs: Sequence[Spec], tools: Sequence[Spec]) -> tuple[Path, dict[str, str]]:
        """Return the copy of the checkout and the environment to build it in."""
        project, by_key = self._context.project, {spec.key: spec for spec in (*specs, *tools)}
        folder = work / "another place" / project.folder.name  # images may be named after the folder
        with step(self._context.emit, "the checkout", "copy"):
            texts = (*self._checkout.read_paths, *self._planner.graph.read_files)
            git = copy_checkout(project.folder, texts, by_key.values(), folder)
            borrowed = [spec for spec in by_key.values() if self._borrowing_verdict(spec)]
            create_borrowing_cache(self._context, borrowed, work / "cache")
        return folder, different_environment(work) | git

    def _borrowing_verdict(self, spec: Spec) -> LayerVerdict | None:
        """Return the verdict on a layer that the second build borrows; None for a layer that it builds."""
        if not self._context.state.is_known(spec.key):
            return None  # a layer of the builder that was evicted, because nothing needed it
        match spec.kind:
            case Kind.IMAGE:
                return LayerVerdict.PINNED
            case Kind.RUN | Kind.CONTAINERFILE if not self._options.steps:
                return LayerVerdict.UNCLAIMED
            case Kind.ROOT if self._options.no_root:
                return LayerVerdict.BORROWED
            case _:
                return None

    def _compare(self, specs: Iterable[Spec], cache: Path) -> Iterator[ComparedLayer]:
        with closing(Ledger(cache / "ledger.sqlite")) as ledger:
            rebuilt = ledger.layers.find(spec.key for spec in specs)
        for spec in specs:
            if spec.key not in rebuilt:
                raise BuildError(
                    f"{spec.name}: the copy of the checkout gave another recipe",
                    hint="did files change meanwhile? run the same command again",
                )
            for first, second in zip(self._context.state.results[spec.key].blobs, rebuilt[spec.key].blobs, strict=True):
                compared = ComparedLayer(
                    name=spec.name, kind=spec.kind, key=str(spec.key), verdict=LayerVerdict.AGREES, first=first
                )
                if verdict := self._borrowing_verdict(spec):
                    yield replace(compared, verdict=verdict)
                elif first.diff_id == second.diff_id and (not first.is_made or first.digest == second.digest):
                    yield replace(compared, second=second)
                else:
                    comparison = self._differences(spec, first, second, Blobs(cache))
                    yield replace(compared, verdict=LayerVerdict.DIFFERS, second=second, comparison=comparison)

    def _differences(self, spec: Spec, first: Blob, second: Blob, others: Blobs) -> Comparison:
        """Return at least one difference between two blobs of a layer."""
        if first.diff_id == second.diff_id:
            return _one_difference("compression", *(f"{b.compression}, {b.size} bytes" for b in (first, second)))
        if self._context.layers.has_blob(first) and self._context.blobs.drop_damaged([first.digest]):
            raise LostError(f"{spec.name}: the cached layer was damaged, and is removed", hint="build it again")
        with step(self._context.emit, spec.name, "compare"):
            comparison = compare_tars(
                lambda: self._context.layers.open_tar(first),
                lambda: inflate(others.path(second.digest), second.compression),
            )
        # equal tars with two diff_ids: one of these is wrong
        return (
            comparison
            if comparison.differences
            else _one_difference("diff_id", first.diff_id.short, second.diff_id.short)
        )


def _one_difference(field: str, first: str, second: str) -> Comparison:
    return Comparison(differences=(Difference(member="", field=field, first=first, second=second),))


def _describe_varied(env: Mapping[str, str], jobs: int, umask: int) -> dict[str, str]:
    """Return what differs in the second build, for people."""
    return {
        "folder": "another",
        "files": "of 2001 and mode 0600",
        "time": f"{_TICK_SECONDS:.0f} s later at least",
        "umask": f"{umask:04o}",
        "jobs": str(jobs),
        "order": "reversed",
        **({"HOME": "another"} if "HOME" in env else {}),
        **{name: value for name, value in env.items() if name in VARIED_VARIABLES},
    }
