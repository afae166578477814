"""Processes forked from this one: what they run does not share this process's interpreter lock.

A function gets one value and returns one, which travel by pickle between processes of the same code. A process ends
with the block that opened it, and as soon as it finds that this one is gone: only the pipe between them keeps it.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Protocol, Self, TypeVar

from buildkit.errors import BuildError
from buildkit.tools.process import name_signal
from buildkit.tools.usage import ResourceUsage, measure_process, record_usage

_LEFT_TO_US = (signal.SIGINT, signal.SIGTERM)  # blocked in the new process: the one that forked it decides

Question = TypeVar("Question")
Result = TypeVar("Result")

Progress = Callable[[int], None]
"""Takes how much is done, and raises Interrupted if the work is to stop."""


class RunFunction(Protocol):
    """Where functions run."""

    def __call__(
        self, function: Callable[[Progress, Question], Result], progress: Progress, question: Question
    ) -> Result:
        """Return ``function(progress, question)``, run here or elsewhere; ``progress`` is called here."""


def run_here(function: Callable[[Progress, Question], Result], progress: Progress, question: Question) -> Result:
    """Return ``function(progress, question)``."""
    return function(progress, question)


class _Answer(NamedTuple):
    """The result of a call, or the error that it raised, and what it used."""

    result: Any
    error: Exception | None
    usage: ResourceUsage


class ForkedWorkers:
    """``count`` processes, of which each runs one function at a time; threads share them. A context manager.

    It is opened before the threads of a build, so that no lock is held in what is forked.
    """

    def __init__(self, count: int) -> None:
        self._workers: list[_ForkedWorker] = []
        self._free: SimpleQueue[_ForkedWorker] = SimpleQueue()
        self._count = count

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                worker = _ForkedWorker()
                self._workers.append(worker)
                self._free.put(worker)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.leave()
        for worker in self._workers:
            worker.wait()

    def run(self, function: Callable[[Progress, Question], Result], progress: Progress, question: Question) -> Result:
        """Return ``function(progress, question)``, called in a process; what it reports is reported here.

        Function, question and result are pickled. Raises what ``function`` or ``progress`` raises, and BuildError if
        the process was killed.
        """
        worker = self._free.get()
        try:
            result: Result = worker.run(function, progress, question)
            return result
        finally:
            self._free.put(worker)


class _ForkedWorker:
    """One process. After an error of the pipe it runs nothing more."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._pid = _fork(theirs)
            except OSError as error:
                ours.close()
                message = f"another process cannot be started: {error.strerror}"
                raise BuildError(message, hint="--jobs 1 packs one layer after another, in this process") from error
        self._code = 0
        self._socket = ours
        self._stream = ours.makefile("rwb")

    def run(self, function: Callable[..., Any], progress: Progress, question: object) -> Any:  # noqa: ANN401 - as told
        try:
            answer = self._exchange((function, question))
            while not isinstance(answer, _Answer):
                progress(answer)
                answer = self._exchange()
        except BaseException:
            self.leave()  # its next report fails there, so it cleans up and ends
            raise
        record_usage(answer.usage)
        if answer.error is not None:
            raise answer.error
        return answer.result

    def _exchange(self, *call: object) -> Any:  # noqa: ANN401 - progress, or an answer
        """Send the call, if there is one, and return what comes next."""
        try:
            for value in call:
                pickle.dump(value, self._stream)
            self._stream.flush()
            return pickle.load(self._stream)  # noqa: S301 - of our own process
        except (EOFError, OSError, ValueError) as error:
            raise self._find_end() from error

    def leave(self) -> None:
        """Let the process end."""
        with suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_RDWR)

    def wait(self) -> int:
        """Wait for the end of the process; return its exit code, negative for a signal."""
        with suppress(OSError):  # what was not sent
            self._stream.close()
        self._socket.close()
        if self._pid:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        return self._code

    def _find_end(self) -> BuildError:
        self.leave()
        code = self.wait()
        if code >= 0:  # a defect: it has printed its traceback
            return BuildError(f"a process of this build ended with exit code {code}")
        return BuildError(
            f"a process of this build was killed by {name_signal(-code)}",
            hint="the kernel does that where memory is short; --jobs 1 needs the least",
        )


def _fork(theirs: socket.socket) -> int:
    """Return the id of a new process, which serves ``theirs`` and never returns. Raises OSError."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_US)
    try:
        with warnings.catch_warnings():  # threads draw, at most; the new process touches nothing of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _live(theirs)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(theirs: socket.socket) -> NoReturn:
    code = 1
    try:
        gc.freeze()  # what was here before the fork is neither searched nor closed
        os.dup2(theirs.fileno(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))  # pipes would have another writer, and locks another holder
        _serve(socket.socket(fileno=3))
        code = 0
    except BaseException:  # noqa: BLE001 - a forked process never returns
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(connection: socket.socket) -> None:
    with suppress(EOFError, OSError), connection.makefile("rwb") as stream:

        def send(value: object) -> None:
            pickle.dump(value, stream)
            stream.flush()

        while True:
            function, question = pickle.load(stream)  # noqa: S301 - of the process that forked this one
            before = measure_process()
            result, error = None, None
            try:
                result = function(send, question)
            except Exception as raised:  # noqa: BLE001 - raised again where it was called
                error = raised
            send(_Answer(result, error, measure_process() - before))
