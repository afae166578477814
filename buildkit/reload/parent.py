"""The parents of workers: processes that have imported what is heavy, make what is kept, and fork.

The first has third-party modules, the second, forked from it, also what is kept. Both do nothing but wait for orders of
process 1 and for the ends of their children, in one thread, because only the thread that forks lives on in a child.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import kept as keeping
from . import limits, modules
from .channel import Channel, Closed, Message
from .code import install_loader
from .trees import AppTrees
from .worker import Setting, leave, run_worker


@dataclass(frozen=True, slots=True, kw_only=True)
class _ParentPlace:
    """What a parent knows beside its modules."""

    setting: Setting
    threads: dict[str, str | None]


def run_parent(descriptor: int, text: str) -> NoReturn:
    """Serve orders until process 1 closes the channel; a worker ends with its own exit code."""
    given = json.loads(text)
    trees = AppTrees(folders=tuple(given["folders"]), ignored=tuple(given["ignored"]))
    setting = Setting(
        trees=trees,
        state=Path(given["state"]),
        program=given["program"],
        path=tuple(sys.path),
    )
    place = _ParentPlace(setting=setting, threads=limits.limit_threads(os.environ))
    _Parent(Channel(socket.socket(fileno=descriptor)), place).serve()


class _Parent:
    def __init__(self, channel: Channel, place: _ParentPlace) -> None:
        self._channel, self._place = channel, place
        self._children: set[int] = set()
        self._kept: dict[str, keeping.Kept] = {}

    def serve(self) -> NoReturn:
        """Take orders; a fork goes on here, too, as another parent or as a worker."""
        signal.signal(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # process 1 ends us by closing the channel
        while True:
            try:
                order, descriptors = self._channel.receive()
            except Closed:
                os._exit(0)  # its children live on; nothing else is to be undone
            match order["order"]:
                case "preload":
                    self._preload(order)
                case "keep":
                    self._keep(order)
                case "parent":
                    self._fork_parent(descriptors[0])
                case _:  # a worker
                    if self._fork_worker(descriptors):
                        leave(self._run_worker(descriptors))

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(Closed):
            self._channel.send(message)

    def _reap(self, _: int, __: FrameType | None) -> None:
        for pid in list(self._children):
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                done, status = pid, 0
            if done:
                self._children.discard(pid)
                self._tell({"event": "ended", "pid": pid, "code": os.waitstatus_to_exitcode(status)})

    def _preload(self, order: Message) -> None:
        names = Path(order["file"]).read_text("utf-8").split() if order["file"] else []
        with _quiet():
            done, threads = modules.preload(names)
        why = modules.find_unforkable(sys.modules)
        gc.collect()
        gc.freeze()
        self._tell({"event": "preloaded", "modules": len(done), "threads": threads, "why": why})

    def _keep(self, order: Message) -> None:
        """Make what is kept; the answer names what cannot be, with the reason, or holds an error in full."""
        store = self._place.setting.store
        install_loader(self._place.setting.trees, store)
        _set_path(self._place.setting)
        culprit = ""
        try:
            for name in order["names"]:
                culprit = name
                self._kept.update(keeping.install_kept([name]))
                for function, key in self._read_calls(order["calls"]):
                    if function == name and name in self._kept:
                        self._kept[name].remember(key)
                why = modules.find_unforkable(sys.modules) or _describe_threads()
                if why:
                    self._tell({"event": "unkept", "name": name, "why": why})
                    return
        except keeping.KeepError as error:
            self._tell({"event": "unkept", "name": culprit, "why": str(error)})
            return
        except BaseException:  # noqa: BLE001 - the application's own code, which may raise anything
            self._tell({"event": "broken", "name": culprit, "text": traceback.format_exc()[-40_000:]})
            return
        gc.collect()
        gc.freeze()
        files = modules.application_files(sys.modules, self._place.setting.trees)
        about = {file: store.texts.get(file, "") for file in files}
        Path(order["report"]).write_text(json.dumps(about), "utf-8")
        self._tell({"event": "kept", "names": order["names"]})

    def _read_calls(self, file: str) -> list[keeping.Call]:
        try:
            calls: list[keeping.Call] = pickle.loads(Path(file).read_bytes())  # noqa: S301 - process 1 wrote it
        except (OSError, EOFError, pickle.UnpicklingError):
            return []
        return calls

    def _fork_parent(self, descriptor: int) -> None:
        pid = self._fork()
        if pid == 0:
            self._channel.close()
            self._channel = Channel(socket.socket(fileno=descriptor))
            self._children = set()
            return
        os.close(descriptor)
        self._tell({"event": "forked", "pid": pid})

    def _fork_worker(self, descriptors: list[int]) -> bool:
        """Whether this is the child."""
        pid = self._fork()
        if pid == 0:
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        self._tell({"event": "forked", "pid": pid})
        return False

    def _fork(self) -> int:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # its end must not be seen before its number
        try:
            pid = os.fork()
            if pid:
                self._children.add(pid)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _run_worker(self, descriptors: list[int]) -> int:
        self._channel.close()
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return run_worker(
            self._place.setting,
            descriptors,
            kept=self._kept,
            prepare=self._prepare_worker,
        )

    def _prepare_worker(self) -> None:
        limits.restore_threads(self._place.threads)
        limits.reseed()


def _describe_threads() -> str:
    number = modules.count_threads()
    return f"it left {number - 1} threads running, which a forked process would lack" if number > 1 else ""


def _set_path(setting: Setting) -> None:
    """Look where a server might: it may add the working folder or a folder of the application itself."""
    sys.path[:] = list(dict.fromkeys((setting.first_path, str(Path.cwd()), *setting.trees.folders, *setting.path)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard what is written to standard output and error, by native code, too: workers write it again."""
    saved = [os.dup(number) for number in (1, 2)]
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        for number in (1, 2):
            os.dup2(nothing.fileno(), number)
    try:
        yield
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
