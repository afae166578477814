"""In which order a build starts its tasks: first what may end it, then what takes long, and layers beside both."""

from __future__ import annotations

import threading
from typing import Any

from buildkit.build.build_layers import build_layers
from buildkit.build.containers import open_containers
from buildkit.build.context import BuildContext
from buildkit.build.inputs import InputTasks
from buildkit.build.layer_writer import LayerWriter
from buildkit.build.planner import Planner
from buildkit.digest import Key
from buildkit.locks.pins import Artifact
from buildkit.plan.spec import Compile
from buildkit.tasks.scheduler import Lane, Outcome, Task, Tasks
from buildkit.tasks.task_id import TaskId, TaskKind

_UNUSED: Any = None


def build(context: BuildContext, tasks: Tasks) -> None:
    """Run tasks as a build runs those that it adds to its own; one layer is packed at once."""
    build_layers(Planner(context, _UNUSED, _UNUSED), (), 1, also=lambda _tasks: tasks)


def test_what_may_end_a_build_and_long_chains_start_before_layers(context: BuildContext) -> None:
    names = {
        "light": TaskId(TaskKind.LAYER, "light"),
        "model": TaskId(TaskKind.LAYER, "model"),
        "scan": TaskId(TaskKind.SCAN, "model"),
        "fetch": TaskId(TaskKind.FETCH, "model"),
        "compare": TaskId(TaskKind.COMPARE, "paths"),
        "made": TaskId(TaskKind.LAYER, "made"),
        "compile": TaskId(TaskKind.COMPILE_WHEEL, "made"),
        "builder": TaskId(TaskKind.LAYER, "builder"),
    }
    needs = {"model": "scan", "scan": "fetch", "made": "compile", "compile": "builder"}
    started: list[str] = []

    def task(name: str) -> Task:
        def action() -> Outcome:
            started.append(name)
            return Outcome()

        needed = (names[needs[name]],) if name in needs else ()
        return Task(name=name, phase="pack", lane=Lane.CPU, action=action, needs=needed)

    build(context, {names[name]: task(name) for name in names})
    assert started == ["builder", "compile", "compare", "fetch", "scan", "light", "model", "made"]


def test_layer_without_a_compiler_is_packed_while_a_wheel_is_compiled(context: BuildContext) -> None:
    tasks: dict[TaskId, Task] = {}
    builder: Any = ()
    wheel = Compile(artifact=Artifact(name="x", version="1.0", path="./x"), key=Key.of(b"k"), recipe="{}")
    with open_containers(context, LayerWriter(blobs=context.blobs, store=context.image_store)) as containers:
        name = InputTasks(context, containers, tasks, lambda: builder, lambda _composition: ()).compile(wheel)
    assert name is not None
    packed = threading.Event()

    def compile_wheel() -> Outcome:
        assert packed.wait(20)
        return Outcome()

    def pack() -> Outcome:
        packed.set()
        return Outcome()

    compiling = Task(name="x", phase="compile", lane=tasks[name].lane, action=compile_wheel, needs=tasks[name].needs)
    light = Task(name="light", phase="pack", lane=Lane.CPU, action=pack)
    build(context, {name: compiling, TaskId(TaskKind.LAYER, "light"): light})
    assert packed.is_set()
