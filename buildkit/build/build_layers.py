"""Builds layers: collects their tasks and runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from buildkit.build.containers import ContainerRunner, open_containers
from buildkit.build.context import BuildContext
from buildkit.build.executor import Executor
from buildkit.build.layer_writer import LayerWriter
from buildkit.build.model_gate import ModelGate
from buildkit.build.planner import Planner
from buildkit.locks.pins import Model
from buildkit.plan.spec import PackWheels, Spec
from buildkit.tasks.scheduler import Lane, Outcome, Task, Tasks, put_first, run_tasks
from buildkit.tasks.task_id import TaskId, TaskKind
from buildkit.tools.malloc_arenas import limit_arenas

if TYPE_CHECKING:
    from buildkit.tools.forked_workers import ForkedWorkers

MIN_PACKED_APART = 64 << 20
"""Unpacked bytes of wheels from which processes pack them: to fork them and to load what they need takes 0.1 s."""

_DOWNLOADS = 8
_UPLOADS = 2  # while layers are packed
_NO_MORE: Tasks = {}


def build_layers(
    planner: Planner,
    specs: Iterable[Spec],
    jobs: int,
    *,
    stage: str = "",
    writer: LayerWriter | None = None,
    backwards: bool = False,
    also: Callable[[Tasks], Tasks] = lambda _tasks: _NO_MORE,
) -> None:
    """Build the layers that the cache lacks, or fetch them from the remote cache; ``jobs`` are packed at once.

    ``stage`` is the stage that they are for, whose index the remote cache is asked for. ``writer`` says
    what becomes of new layers, all forms by default. ``backwards`` starts with the
    last task. ``also`` is given the tasks that make layers and returns others to run with them. Raises the failure, one
    BuildError for several failures, or Interrupted.
    """
    context, wanted = planner.context, list(specs)
    _prepare(context)
    with ExitStack() as stack:
        packers = _open_packers(stack, context, wanted, writer, jobs)
        executor, _ = stack.enter_context(_open_executor(planner, stage, writer, packers))
        executor.require(wanted)
        tasks = dict(reversed(executor.tasks.items())) if backwards else dict(executor.tasks)
        tasks |= also(tasks)
        # scans use the cores while wheels are fetched; what may end the build comes before them; compiling is a long
        # chain, and fails most often
        ordered: Tasks = tasks
        for kind in (TaskKind.SCAN, TaskKind.COMPARE, TaskKind.COMPILE_WHEEL):
            ordered = put_first(ordered, kind)
        _run(ordered, jobs, context)


def _open_packers(
    stack: ExitStack, context: BuildContext, specs: Sequence[Spec], writer: LayerWriter | None, jobs: int
) -> ForkedWorkers | None:
    """Return the processes that pack the wheels of ``specs``, before there are threads; None where threads do it."""
    streams = writer.streams if writer else None
    if context.project.bytecode or (streams is not None and streams.are_open):
        return None
    count = count_packers([spec for spec in specs if not context.state.is_only_remote(spec.key)], jobs)
    if not count:
        return None
    import buildkit.build.wheel_packing  # noqa: F401 - once, for all of them
    from buildkit.tools.forked_workers import ForkedWorkers  # few builds pack many wheels

    return stack.enter_context(ForkedWorkers(count))


def count_packers(specs: Sequence[Spec], jobs: int) -> int:
    """Return how many processes pack the wheels of ``specs``, ``jobs`` at most; none where threads are as fast."""
    weights = [spec.weight for spec in specs if isinstance(spec.work, PackWheels)]
    count = min(jobs, len(weights))
    return count if count > 1 and sum(weights) >= MIN_PACKED_APART else 0


def act_in_stage(
    planner: Planner,
    stage: str,
    jobs: int,
    models: Iterable[Model],
    act: Callable[[ContainerRunner], Outcome],
    name: str,
) -> None:
    """Build a stage, bring models here, and then ``act`` with containers, as the task ``name``; raises the same."""
    _prepare(planner.context)
    with _open_executor(planner, stage) as (executor, containers):
        needs = executor.require_stage(stage, models)
        action = partial(act, containers)
        last = Task(name=name, phase="derive", lane=Lane.CONTAINER, action=action, needs=needs)
        _run(executor.tasks | {TaskId(TaskKind.DERIVE, name): last}, jobs, planner.context)


def warm_compiler(planner: Planner, stages: Iterable[str], jobs: int) -> None:
    """Start the bytecode compiler that a change of these stages' wheels needs, and leave it to the planner's keeper.

    Nothing is built or fetched for that. Raises BuildError and Interrupted.
    """
    specs = [spec for stage in stages for spec in planner.composer.compose(stage).specs]
    root = planner.tools([spec.work for spec in specs if isinstance(spec.work, PackWheels)], only_missing=True)
    context = planner.context
    context.state.learn(planner.lookup(spec.key for spec in root), only_remote=False)
    if not root or not all(context.state.is_here(spec.key) for spec in root):
        return
    with _open_executor(planner) as (executor, _):
        executor.require_compiler()
        _run(executor.tasks, jobs, context)


def _prepare(context: BuildContext) -> None:
    limit_arenas()
    context.blobs.sweep()
    if context.image_store is not None:
        context.image_store.sweep()


@contextmanager
def _open_executor(
    planner: Planner, stage: str = "", writer: LayerWriter | None = None, packers: ForkedWorkers | None = None
) -> Iterator[tuple[Executor, ContainerRunner]]:
    writer = writer or LayerWriter(blobs=planner.context.blobs, store=planner.context.image_store)
    with open_containers(planner.context, writer) as containers, ModelGate(planner.context) as gate:
        yield Executor(planner, containers, gate, writer, stage, packers), containers


def _run(tasks: Tasks, jobs: int, context: BuildContext) -> None:
    lanes = {Lane.CPU: jobs, Lane.NET: _DOWNLOADS, Lane.UP: _UPLOADS, Lane.CONTAINER: 1}
    run_tasks(tasks, lanes, context.emit, context.stop, context.meter)
