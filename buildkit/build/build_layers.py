"""Builds layers: collects their tasks and runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

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
    _prepare(planner.context)
    with _open_executor(planner, stage, writer) as (executor, _):
        executor.require(specs)
        tasks = dict(reversed(executor.tasks.items())) if backwards else dict(executor.tasks)
        tasks |= also(tasks)
        # scans use the cores while wheels are fetched; what may end the build comes before them; compiling is a long
        # chain, and fails most often
        ordered: Tasks = tasks
        for kind in (TaskKind.SCAN, TaskKind.COMPARE, TaskKind.COMPILE_WHEEL):
            ordered = put_first(ordered, kind)
        _run(ordered, jobs, planner.context)


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
    planner: Planner, stage: str = "", writer: LayerWriter | None = None
) -> Iterator[tuple[Executor, ContainerRunner]]:
    writer = writer or LayerWriter(context=planner.context)
    with open_containers(planner.context, writer) as containers, ModelGate(planner.context) as gate:
        yield Executor(planner, containers, gate, writer, stage), containers


def _run(tasks: Tasks, jobs: int, context: BuildContext) -> None:
    lanes = {Lane.CPU: jobs, Lane.NET: _DOWNLOADS, Lane.UP: _UPLOADS, Lane.CONTAINER: 1}
    run_tasks(tasks, lanes, context.emit, context.stop, context.meter)
