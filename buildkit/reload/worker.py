"""A worker: a forked process that runs the service's own program as if it had been started afresh."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib
import json
import os
import pickle
import runpy
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

from . import modules
from .adoption import Address, AdoptedSockets
from .channel import Channel, Closed, Message
from .code import CodeStore, install_loader
from .kept import Call, Kept
from .servers import adapt_servers
from .trees import AppTrees

ORDERS_SIGNAL = signal.SIGRTMAX - 3
"""Sent by the kernel when an order can be read: the program's threads and event loop stay as they are."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What workers are made with: ``program`` as in `program.Program`, ``path`` as the interpreter set it."""

    trees: AppTrees
    state: Path
    program: Mapping[str, Any]
    path: tuple[str, ...]

    @property
    def store(self) -> CodeStore:
        """A store of code without pins."""
        return CodeStore(self.state / "code")

    @cached_property
    def first_path(self) -> str:
        """Where Python would look for modules first."""
        if self.program["module"]:
            return os.getcwd()  # noqa: PTH109 - as Python does it
        return str(Path(self.program["script"]).resolve().parent)


def run_worker(
    setting: Setting, descriptors: list[int], *, kept: Mapping[str, Kept], prepare: Callable[[], object]
) -> int:
    """Wait for the word to go, then run the program; return its exit code."""
    orders, calls = (Channel(socket.socket(fileno=one)) for one in descriptors[:2])
    os.dup2(descriptors[2], 2)
    if len(descriptors) > 3:
        os.dup2(descriptors[3], 1)
    for descriptor in descriptors[2:]:
        os.close(descriptor)
    os.setpgid(0, 0)  # so that what it starts can be ended with it
    _touch()
    try:
        order, _ = orders.receive()
    except Closed:
        return 0
    prepare()
    return _Worker(setting, orders, calls, order).run(kept)


def leave(code: int) -> NoReturn:
    """End this process as an interpreter ends, and as multiprocessing ends one that was forked: memory is left alone.

    To free one object after the other would copy all that is shared with the parent, for a second with large libraries.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
    finally:
        os._exit(code & 0xFF)


def _touch() -> None:
    """Write to the objects that an import touches first, so that their memory is ours before somebody waits for it."""
    for module in list(sys.modules.values()):
        for _ in list(getattr(module, "__dict__", {}).values()):
            pass


class _Worker:
    def __init__(self, setting: Setting, orders: Channel, calls: Channel, order: Message) -> None:
        self._setting, self._orders, self._calls, self._order = setting, orders, calls, order
        pins = json.loads(Path(order["pins"]).read_text("utf-8")) if order.get("pins") else {}
        self._store = CodeStore(setting.state / "code", pins)
        self._pid = os.getpid()

    def run(self, kept: Mapping[str, Kept]) -> int:
        """Run the program, or tests."""
        install_loader(self._setting.trees, self._store)
        sys.path[:] = [self._setting.first_path, *self._setting.path]
        self._listen_for_orders()
        for function in kept.values():
            function.tell = self._tell_call
        if self._order["order"] == "test":
            return self._guard(lambda: _run_tests(self._order["arguments"]))
        adoption = AdoptedSockets(self._ask_socket, self._tell_accepted)
        adoption.install()
        adapt_servers(adoption)
        if self._order.get("wait"):
            self._debug({"wait": True})
        return self._guard(self._run_program)

    def _guard(self, run: Callable[[], int]) -> int:
        """Return the exit code, and tell process 1 of an error with its traceback."""
        try:
            return run()
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                return end.code or 0
            sys.stderr.write(f"{end.code}\n")
            return 1
        except KeyboardInterrupt:
            return 130
        except BaseException as error:  # noqa: BLE001 - the program's own
            text = "".join(traceback.format_exception(_without_ours(error)))
            sys.stderr.write(text)
            with contextlib.suppress(Closed):
                self._calls.ask({"call": "failed", "text": text[-40_000:], **_find_place(error, self._setting.trees)})
            return 1

    def _run_program(self) -> int:
        program = self._setting.program
        if program["module"]:
            sys.argv[:] = [program["module"], *program["arguments"]]
            runpy.run_module(program["module"], run_name="__main__", alter_sys=True)
            return 0
        path = program["script"]
        sys.argv[:] = [path, *program["arguments"]]
        main = ModuleType("__main__")
        main.__dict__.update(__file__=path, __builtins__=__builtins__, __cached__=None)
        sys.modules["__main__"] = main
        exec(self._store.get_code(os.path.abspath(path)), main.__dict__)  # noqa: S102, PTH100 - the service's program
        return 0

    def _listen_for_orders(self) -> None:
        signal.signal(ORDERS_SIGNAL, self._take_orders)
        signal.siginterrupt(ORDERS_SIGNAL, False)
        self._orders.socket.setblocking(False)
        number = self._orders.fileno()
        fcntl.fcntl(number, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(number, fcntl.F_SETSIG, ORDERS_SIGNAL)
        fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_ASYNC)
        self._take_orders(0, None)  # what came before

    def _take_orders(self, _: int, __: FrameType | None) -> None:
        while True:
            try:
                order = self._orders.receive()[0]
            except BlockingIOError:
                return
            except Closed:
                signal.signal(ORDERS_SIGNAL, signal.SIG_IGN)
                os.kill(os.getpid(), signal.SIGTERM)  # process 1 is gone
                return
            if order["order"] == "report":
                self._report(Path(order["file"]))
            elif order["order"] == "debug":
                self._debug(order)

    def _report(self, file: Path) -> None:
        """Write what was imported, and which texts the code is of."""
        about = {
            "modules": modules.learn_modules(sys.modules, self._setting.trees),
            "files": modules.application_files(sys.modules, self._setting.trees),
            "code": self._store.used,
        }
        if os.getpid() == self._pid and file.exists():
            self._calls.send({"call": "reported"})  # the server's own process has told more
            return
        beside = file.with_suffix(".part")
        beside.write_text(json.dumps(about), "utf-8")
        beside.replace(file)
        self._calls.send({"call": "reported"})

    def _debug(self, order: Message) -> None:
        """Let a debugger attach to this process; process 1 passes its connection on."""
        try:
            debugpy = importlib.import_module("debugpy")
            debugpy.configure(subProcess=True)
            _, port = debugpy.listen(("127.0.0.1", 0))
        except Exception as error:  # noqa: BLE001 - whatever a debugger fails with is told, and the service goes on
            self._calls.send({"call": "undebuggable", "why": f"{type(error).__name__}: {error}"})
            return
        self._calls.send({"call": "debuggable", "port": port})
        if order.get("wait"):
            debugpy.wait_for_client()

    def _ask_socket(self, family: int, address: Address, only: bool) -> tuple[int, int]:
        answer, descriptors = self._calls.ask(
            {
                "call": "bind",
                "family": int(family),
                "address": list(address),
                "only": only,
                "gentle": "uvicorn.server" in sys.modules,
            }
        )
        return (descriptors[0], 0) if descriptors else (-1, answer["errno"])

    def _tell_accepted(self, address: Address) -> None:
        with contextlib.suppress(Closed):
            self._calls.send({"call": "accepted", "address": list(address)})
        if os.getpid() != self._pid and self._order.get("report"):
            self._report(Path(self._order["report"]))  # a server's own process, which gets no orders

    def _tell_call(self, call: Call) -> None:
        folder = self._setting.state / "calls"
        file = folder / f"{os.getpid()}-{len(os.listdir(folder))}.pickle"  # noqa: PTH208
        file.write_bytes(pickle.dumps(call))
        with contextlib.suppress(Closed):
            self._calls.send({"call": "called", "name": call[0], "file": str(file)})


def _run_tests(arguments: list[str]) -> int:
    import pytest  # type: ignore[import-not-found,unused-ignore]

    return int(pytest.main(arguments))


def _without_ours(error: BaseException) -> BaseException:
    """Leave out the frames of the reloader, which say nothing about the service."""
    trace = error.__traceback__
    ours = os.path.dirname(__file__)  # noqa: PTH120
    while trace is not None and (
        os.path.dirname(trace.tb_frame.f_code.co_filename) == ours  # noqa: PTH120
        or trace.tb_frame.f_code.co_filename.startswith("<frozen ")
    ):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _find_place(error: BaseException, trees: AppTrees) -> Message:
    """Return file, line and message: those of a syntax error, else of the last frame in the application's files."""
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return {"file": error.filename, "line": error.lineno or 0, "message": error.msg or message}
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if trees.holds(frame.filename)] or list(frames)
    place = {"file": own[-1].filename, "line": own[-1].lineno or 0} if own else {}
    return {**place, "message": message[:2000]}
