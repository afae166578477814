"""Profile this process: memory by tracemalloc, operators of ONNX Runtime, and of PyTorch with schedule and warm-up.

The host and this process talk by files of ``XOE_PROFILE_FOLDER``. The host makes ``start`` when the service has
answered, and ``stop`` at the end. Each process holds a lock on ``ready-PID`` while it lives, writes ``started-PID``
when the load may come, and at the end its figures, then ``done-PID.json``:
``{"problems": [TEXT], "files": [NAME], "peak": BYTES, "skip": {FILE: MICROSECONDS}}``.
``XOE_PROFILE`` names what is profiled: ``memory`` or ``frameworks``.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.util
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

_POLL = 0.05  # seconds
_FRAMES = 8  # of a traceback: more cost time at each allocation
_TRACES, _FILES = 3000, 300  # the largest that are kept
_WARM_UP, _ACTIVE = 2, 5  # steps of torch's profiler

_folder = os.environ.get("XOE_PROFILE_FOLDER", "")
_what = os.environ.get("XOE_PROFILE", "")
if _what == "memory":
    import tracemalloc  # a trimmed root may lack it
_agent: Agent | None = None


def begin() -> None:
    """Begin in this process, and in each that it forks."""
    global _agent
    if not _folder or _agent is not None:
        return
    if _what == "memory":
        tracemalloc.start(_FRAMES)
    _agent = Agent()
    if _what == "frameworks":
        patches = {"onnxruntime": _agent.onnx.patch, "torch": _agent.torch.patch}
        sys.meta_path.insert(0, _PatchingFinder(patches, _agent.problems))  # type: ignore[arg-type]
    _agent.follow()
    os.register_at_fork(after_in_child=_begin_in_child)


def step() -> contextlib.AbstractContextManager[None]:
    """Return a context: one step of torch's profiler, where a service computes without ``torch.nn.Module``."""
    return _agent.torch.step() if _agent is not None else contextlib.nullcontext()


def _begin_in_child() -> None:
    if _agent is not None:
        _agent.leave_parent()
        _agent.follow()


class Agent:
    """What is profiled in one process."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.before: dict[str, tuple[int, int]] = {}
        self.lock = -1
        self.onnx, self.torch = OnnxSessions(), TorchSteps(self.problems)

    def leave_parent(self) -> None:
        """Forget what belongs to the parent of this forked process."""
        os.close(self.lock)
        self.problems.clear()
        self.onnx.sessions.clear()
        self.torch.reset()

    def follow(self) -> None:
        """Announce this process, and wait for the host in a thread."""
        self.lock = os.open(path(f"ready-{os.getpid()}"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        threading.Thread(target=self._wait, name="xoe-profile", daemon=True).start()

    def _wait(self) -> None:
        _await("start")
        if _what == "memory":
            tracemalloc.reset_peak()
            self.before = _by_file(tracemalloc.take_snapshot())
        self.onnx.marks = time.time_ns(), time.monotonic_ns()
        self.torch.started = True
        write(f"started-{os.getpid()}", None)
        _await("stop")
        files = []
        for finish in (self._finish_memory, self.onnx.finish, self.torch.finish):
            try:
                files += finish()
            except Exception as error:  # noqa: BLE001 - a profiler of the image failed; the service goes on
                self.problems.append(f"{type(error).__name__}: {error}")
        write(
            f"done-{os.getpid()}.json",
            {"problems": self.problems, "files": files, "peak": _read_peak(), "skip": self.onnx.skip},
        )

    def _finish_memory(self) -> list[str]:
        if _what != "memory":
            return []
        traced, traced_peak = tracemalloc.get_traced_memory()
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        after = _by_file(snapshot)
        largest = sorted(after, key=lambda file: after[file][0], reverse=True)[:_FILES]
        files = [[file, *after[file], after[file][0] - self.before.get(file, (0, 0))[0]] for file in largest]
        traces = [
            [one.size, [[frame.filename, frame.lineno] for frame in one.traceback]]
            for one in snapshot.statistics("traceback")[:_TRACES]
        ]
        name = f"memory-{os.getpid()}.json"
        write(name, {"traced": traced, "traced_peak": traced_peak, "files": files, "traces": traces})
        return [name]


class OnnxSessions:
    """ONNX Runtime's profiler, on in every session that is made."""

    def __init__(self) -> None:
        self.sessions: list[weakref.ref[Any]] = []
        self.marks = 0, 0
        self.skip: dict[str, int] = {}

    def patch(self, module: Any) -> None:
        """Let sessions be made with ``enable_profiling``; the options of the service are as before afterwards."""
        plain = module.InferenceSession.__init__

        @functools.wraps(plain)
        def make(session: Any, model: Any, sess_options: Any = None, *args: Any, **named: Any) -> None:
            options = sess_options if sess_options is not None else module.SessionOptions()
            before = options.enable_profiling, options.profile_file_prefix
            options.enable_profiling = True
            options.profile_file_prefix = path(f"onnxruntime-{os.getpid()}-{len(self.sessions)}")
            try:
                plain(session, model, options, *args, **named)
            finally:
                options.enable_profiling, options.profile_file_prefix = before
            self.sessions.append(weakref.ref(session))

        module.InferenceSession.__init__ = make

    def finish(self) -> list[str]:
        """End profiling of sessions that are left, and return the names of the traces."""
        names = []
        for session in filter(None, (one() for one in self.sessions)):
            began = session.get_profiling_start_time_ns()
            name = os.path.basename(session.end_profiling())
            names.append(name)
            mark = self.marks[0 if began > 10**18 else 1]  # of the epoch with libstdc++, monotonic by its documentation
            self.skip[name] = max(0, (mark - began) // 1000)  # its times count from its own start
        return names


class TorchSteps:
    """torch's profiler: each call of an outermost ``torch.nn.Module``, or of `step`, is one step of its schedule.

    It records the thread that takes the first step, because torch's profiler belongs to a thread.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.started = False
        self.module: Any = None
        self.guard = threading.Lock()
        self.local = threading.local()
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.owner: int | None = None
        self.profiler: Any = None
        self.count = 0
        self.names: list[str] = []

    def patch(self, module: Any) -> None:
        """Make calls of modules steps."""
        self.module = module
        plain = module.nn.Module.__call__
        steps = self

        @functools.wraps(plain)
        def call(self: Any, *args: Any, **named: Any) -> Any:
            if getattr(steps.local, "inside", False):
                return plain(self, *args, **named)
            with steps.step():
                return plain(self, *args, **named)

        module.nn.Module.__call__ = call

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """One step, unless it is inside another one, belongs to another thread, or all are done."""
        if not self._owns() or getattr(self.local, "inside", False):
            yield
            return
        self.local.inside = True
        try:
            yield
        finally:
            self.local.inside = False
            self.count += 1
            self.profiler.step()
            if self.names:
                self.profiler.stop()

    def _owns(self) -> bool:
        if not self.started or self.names or self.module is None:
            return False
        with self.guard:
            if self.owner is None:
                self.owner = threading.get_ident()
                self._start(self.module.profiler)
        return self.owner == threading.get_ident()

    def _start(self, profiler: Any) -> None:
        activities = [profiler.ProfilerActivity.CPU]
        if self.module.cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        schedule = profiler.schedule(wait=0, warmup=_WARM_UP, active=_ACTIVE, repeat=1)
        self.profiler = profiler.profile(activities=activities, schedule=schedule, on_trace_ready=self._export)
        self.profiler.start()

    def _export(self, profiler: Any) -> None:
        name = f"torch-{os.getpid()}.json"
        profiler.export_chrome_trace(path(name))
        self.names.append(name)

    def finish(self) -> list[str]:
        """Return the name of the trace, and say why there is none."""
        if self.module is not None and not self.names:
            self.problems.append(
                f"torch: {self.count} of {_WARM_UP + _ACTIVE} steps came from the thread that took the first: no trace"
            )
        return self.names


class _PatchingFinder:
    """Patches modules right after they are imported."""

    def __init__(self, patches: dict[str, Callable[[Any], None]], problems: list[str]) -> None:
        self.patches, self.problems = patches, problems

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        patch = self.patches.pop(name, None)
        spec = None if patch is None else importlib.util.find_spec(name)
        if patch is None or spec is None or spec.loader is None:
            return None
        plain = spec.loader.exec_module

        def execute(module: Any) -> None:
            plain(module)
            try:
                patch(module)
            except Exception as error:  # noqa: BLE001 - another version than we know; the service goes on
                self.problems.append(f"{name} cannot be profiled: {error}")

        spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def _by_file(snapshot: tracemalloc.Snapshot) -> dict[str, tuple[int, int]]:
    found = snapshot.statistics("filename")
    return {one.traceback[0].filename: (one.size, one.count) for one in found}


def _read_peak() -> int:
    """Return the most bytes of memory that this process has had, without importing what a trimmed root may lack."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)


def _await(name: str) -> None:
    while not os.path.exists(path(name)):
        time.sleep(_POLL)


def path(name: str) -> str:
    """Return the path of a file for the host."""
    return os.path.join(_folder, name)


def write(name: str, value: Any) -> None:
    """Write a file for the host, whole or not at all."""
    with open(path("." + name), "w", encoding="utf-8", errors="replace") as file:
        json.dump(value, file)
    os.replace(path("." + name), path(name))
