"""``nox -s reproduce``: a stage's layers, built a second time elsewhere and otherwise, and compared byte by byte.

The first side are the layers as the user's cache has them, or a shared one; they are built where they are missing. The
second side is built from a copy of the checkout, in an empty cache that borrows only what is pinned by hash (downloads,
images of registries), in a process with another umask, environment and order. What `[[run]]` and `[apt]` steps write is
not claimed to be the same, so it is borrowed unless it is asked for. A Debian root may be, too: to make it takes the
archive, and most of the time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

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
from buildkit.report.layer_comparison import Agreement, LayerComparison, Twice
from buildkit.report.view import open_view
from buildkit.reproduce.sandbox import OTHER, NotingCheckout, copy_checkout, lend, other_environment, other_umask
from buildkit.reproduce.worker import build_again, execute
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger

_TICK_SECONDS = 2.0  # the coarsest clock that an archive keeps: a zip's
STDOUT = "-"  # as ``ReproduceOptions.json``: standard output


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceOptions:
    """What may stand after ``--``; ``json`` is a file, or ``-`` for standard output."""

    stage: str
    json: str = ""
    steps: bool = False
    no_root: bool = False
    cache: str = ""
    jobs: int = 2


def build_twice(folder: Path, options: ReproduceOptions) -> Agreement:
    """Build the stage's layers where they are missing, build them again elsewhere, and compare them."""
    project = load_project(folder)
    with open_view(sys.stderr) as emit, open_context(project, emit) as context:
        open_remote_cache(context, RemoteCacheOptions(cache=options.cache, cache_read_only=True))
        return _SecondBuild(context, options).run()


class _SecondBuild:
    """Both builds of a stage, and how they compare."""

    def __init__(self, context: BuildContext, options: ReproduceOptions) -> None:
        graph = load_graph(context.project.folder)
        self._checkout = NotingCheckout(context.project, graph, context.stat_index, context.emit)
        self._planner = Planner(context, graph, self._checkout)
        self._context = context
        self._options = options

    def run(self) -> Agreement:
        """Build, build again, and compare."""
        began = time.monotonic()
        context, stage, jobs = self._context, self._options.stage, self._options.jobs
        specs = self._planner.composer.compose(stage).specs
        execute(self._planner, specs, jobs)
        built = time.monotonic() if context.tally.read().built else 0.0
        tools = self._tools(specs)
        context.state.learn(self._planner.lookup(spec.key for spec in tools))
        jobs, umask = (jobs // 2 if jobs > 1 else 2), other_umask()
        with context.blobs.working_folder() as work:
            place, env = self._prepare(work, specs, tools)
            time.sleep(max(0.0, built + _TICK_SECONDS - time.monotonic()))  # another time, also to a coarse clock
            build_again(place, stage, env, context.emit, jobs=jobs, umask=umask)
            layers = tuple(self._compare(specs, work / "cache"))
        varied = _say_varied(env, jobs, umask)
        return Agreement(stage=stage, layers=layers, varied=varied, seconds=time.monotonic() - began)

    def _tools(self, specs: Iterable[Spec]) -> tuple[Spec, ...]:
        """What compiles for the stage: the root of the bytecode compiler, and the builder."""
        wheels = [spec.work for spec in specs if isinstance(spec.work, PackWheels)]
        compiler = self._planner.composer.compiler if wheels and self._context.project.bytecode else ()
        builder = self._planner.composer.builder.specs if any(work.compiled for work in wheels) else ()
        return (*compiler, *builder)

    def _prepare(self, work: Path, specs: Sequence[Spec], tools: Sequence[Spec]) -> tuple[Path, dict[str, str]]:
        """The other checkout and the environment to build it in."""
        project, every = self._context.project, {spec.key: spec for spec in (*specs, *tools)}
        place = work / "another place" / project.folder.name  # images may be called by the folder's name
        with step(self._context.emit, "the checkout", "copy"):
            git = copy_checkout(project.folder, self._checkout.noted, every.values(), place)
            lend(self._context, [spec for spec in every.values() if self._borrowed(spec)], work / "cache")
        return place, other_environment(work) | git

    def _borrowed(self, spec: Spec) -> LayerComparison | None:
        """What is said of a layer that the second build borrows; None for one that it makes."""
        if not self._context.state.is_known(spec.key):
            return None  # a part of what compiles, evicted since it was last of use
        match spec.kind:
            case Kind.IMAGE:
                return LayerComparison.PINNED
            case Kind.RUN if not self._options.steps:
                return LayerComparison.UNCLAIMED
            case Kind.ROOT if self._options.no_root:
                return LayerComparison.BORROWED
            case _:
                return None

    def _compare(self, specs: Iterable[Spec], cache: Path) -> Iterator[Twice]:
        with closing(Ledger(cache / "ledger.sqlite")) as ledger:
            again = ledger.layers.find(spec.key for spec in specs)
        for spec in specs:
            if spec.key not in again:
                raise BuildError(
                    f"{spec.name}: the copy of the checkout came to another recipe",
                    hint="did files change meanwhile? run the same command again",
                )
            for first, second in zip(self._context.state.results[spec.key].blobs, again[spec.key].blobs, strict=True):
                twice = Twice(
                    name=spec.name, kind=spec.kind, key=str(spec.key), verdict=LayerComparison.AGREES, first=first
                )
                if verdict := self._borrowed(spec):
                    yield replace(twice, verdict=verdict)
                elif (first.diff_id, first.digest) == (second.diff_id, second.digest):
                    yield replace(twice, second=second)
                else:
                    found = self._differences(spec, first, second, Blobs(cache))
                    yield replace(twice, verdict=LayerComparison.DIFFERS, second=second, comparison=found)

    def _differences(self, spec: Spec, first: Blob, second: Blob, others: Blobs) -> Comparison:
        """What differs, at least one thing."""
        if first.diff_id == second.diff_id:
            return _one_difference("compression", *(f"{b.compression}, {b.size} bytes" for b in (first, second)))
        if self._context.blobs.drop_damaged([first.digest]):
            raise LostError(f"{spec.name}: the cached layer was damaged, and is removed", hint="build it again")
        with step(self._context.emit, spec.name, "compare"):
            found = compare_tars(
                lambda: inflate(self._context.blobs.path(first.digest), first.compression),
                lambda: inflate(others.path(second.digest), second.compression),
            )
        # the same bytes under two names: one of them is wrong
        return found if found.differences else _one_difference("diff_id", first.diff_id.short, second.diff_id.short)


def _one_difference(field: str, first: str, second: str) -> Comparison:
    return Comparison(differences=(Difference(member="", field=field, first=first, second=second),))


def _say_varied(env: Mapping[str, str], jobs: int, umask: int) -> dict[str, str]:
    """What was another the second time, for people."""
    return {
        "folder": "another",
        "files": "of 2001 and mode 0600",
        "time": f"{_TICK_SECONDS:.0f} s later at least",
        "umask": f"{umask:04o}",
        "jobs": str(jobs),
        "order": "reversed",
        **({"HOME": "another"} if "HOME" in env else {}),
        **{name: value for name, value in env.items() if name in OTHER},
    }
