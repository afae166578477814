"""Compile bytecode with the image's own interpreter: the client of ``pyc_worker``.

A ``.pyc`` has an unchecked hash (PEP 552): Python then trusts it without checking the time or bytes of the source,
which is right in a layer, where neither changes. The paths inside are those of the image.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from importlib.resources import files
from types import TracebackType
from typing import BinaryIO, Self

from buildkit.errors import BuildError
from buildkit.layers.tar.member import Member

_REQUEST = struct.Struct(">II")
_REPLY = struct.Struct(">IBI")
_WORD = struct.Struct(">I")
_GREETING = "buildkit-pyc 1 "
# -I ignores the image's environment but also the seed, so the worker is started a second time with only the seed.
# If the parent was killed, the first pipe has no reader, or nothing ever opens the second: the alarm ends the worker.
_START = (
    "import os, signal, sys\n"
    "signal.alarm(60)\n"
    "for handle, path, mode in zip((1, 0), sys.argv[2:], (os.O_WRONLY | os.O_NONBLOCK, os.O_RDONLY)):\n"
    "    os.dup2(os.open(path, mode), handle)\n"
    "    os.set_blocking(handle, True)\n"
    "signal.alarm(0)\n"
    "os.execve(sys.executable, [sys.executable, '-s', '-S', '-c', sys.argv[1]], {'PYTHONHASHSEED': '0'})"
)
_BATCH_FILES = 64
_BATCH_BYTES = 1 << 20
_AHEAD = 8

Batch = list[tuple[Member, bytes]]


def worker_argv(interpreter: str, *pipes: str) -> tuple[str, ...]:
    """Return the command that starts the worker under the image's ``interpreter``; `Compiler` takes its two streams.

    ``pipes`` are the paths of its output and its input, if they are not the standard streams.
    """
    source = (files("buildkit.layers.wheel") / "pyc_worker.py").read_text("utf-8")
    return (interpreter, "-I", "-S", "-c", _START, source, *pipes)


class Compiler:
    """Compiles batches of sources in a running worker; several threads may use it at once.

    ``stdin`` and ``stdout`` are the worker's. A context manager: leaving it closes the worker's input, which ends the
    worker. Raises BuildError if the worker's answer is not the protocol's or it ends too early.
    """

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._stdin = stdin
        self._stdout = stdout
        greeting = stdout.readline(80).decode("utf-8", "replace").strip()
        if not greeting.startswith(_GREETING):
            raise BuildError(
                f"the image's Python did not start as a bytecode compiler: {greeting!r}",
                hint="does the stage's root hold the interpreter that the target names?",
            )
        self.tag = greeting.removeprefix(_GREETING)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: dict[int, Future[tuple[bytes, ...]]] = {}
        self._next = 0
        self._ended = False
        self._reader = threading.Thread(target=self._read_replies, name="bytecode", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def has_ended(self) -> bool:
        """Whether the worker has ended, so that it compiles nothing more."""
        return self._ended

    def close(self) -> None:
        """End the worker; batches in flight are answered or fail."""
        with suppress(BrokenPipeError):  # it has already ended
            self._stdin.close()
        self._reader.join()

    def submit(self, sources: Sequence[tuple[str, bytes]]) -> Future[tuple[bytes, ...]]:
        """Compile ``(absolute path in the image, source)`` pairs as one batch.

        The result has a ``.pyc`` for each, empty if the source does not compile. The bytes depend on the batch alone,
        not on what else the worker compiles.
        """
        payload = b"".join(
            part
            for path, source in sources
            for part in (_REQUEST.pack(len(path.encode()), len(source)), path.encode(), source)
        )
        future: Future[tuple[bytes, ...]] = Future()
        with self._lock:
            if self._ended:
                raise _worker_ended()
            number, self._next = self._next, self._next + 1
            self._pending[number] = future
        # not under the same lock: the worker may have to deliver answers before it takes more
        with self._writing, suppress(BrokenPipeError, ValueError):  # the worker ended: the reader fails the future
            self._stdin.write(_REQUEST.pack(number, len(payload)) + payload)
            self._stdin.flush()
        return future

    def _read_replies(self) -> None:
        with suppress(OSError, ValueError):  # the stream was closed: pending batches fail below
            while len(head := self._stdout.read(_REPLY.size)) == _REPLY.size:
                number, state, size = _REPLY.unpack(head)
                self._answer(number, state, self._stdout.read(size))
        with self._lock:
            self._ended = True
            pending, self._pending = self._pending, {}
        for future in pending.values():
            future.set_exception(_worker_ended())

    def _answer(self, number: int, state: int, answer: bytes) -> None:
        with self._lock:
            future = self._pending.pop(number, None)
        if future is None:
            return  # an answer to no request: not our protocol, so the stream ends soon
        if state:
            future.set_exception(BuildError("the image's Python died while compiling a batch of modules"))
            return
        compiled: list[bytes] = []
        at = 0
        while at < len(answer):
            (size,) = _WORD.unpack_from(answer, at)
            at += _WORD.size
            compiled.append(answer[at : at + size])
            at += size
        future.set_result(tuple(compiled))


def compiled_members(members: Iterable[Member], compiler: Compiler) -> Iterator[Member]:
    """Yield all ``members``, other files first, then each module followed by its bytecode, if it compiles.

    A few batches are compiled ahead, so that the worker is busy while other files are packed; only those batches are
    held in memory.
    """
    batches = _batches(member for member in members if member.path.endswith(".py"))
    ahead: deque[tuple[Batch, Future[tuple[bytes, ...]]]] = deque()
    _fill(ahead, batches, compiler)
    yield from (member for member in members if not member.path.endswith(".py"))
    while ahead:
        batch, future = ahead.popleft()
        compiled = future.result()
        _fill(ahead, batches, compiler)
        for (module, source), pyc in zip(batch, compiled, strict=True):
            yield _held(module, module.path, source)
            if pyc:
                yield _held(module, cache_path(module.path, compiler.tag), pyc)


def cache_path(path: str, tag: str) -> str:
    """Return the path of the bytecode of the module at ``path`` (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"


def _fill(ahead: deque[tuple[Batch, Future[tuple[bytes, ...]]]], batches: Iterator[Batch], compiler: Compiler) -> None:
    while len(ahead) < _AHEAD and (batch := next(batches, None)):
        sources = [(f"/{module.path}", source) for module, source in batch]
        ahead.append((batch, compiler.submit(sources)))


def _batches(modules: Iterator[Member]) -> Iterator[Batch]:
    """Split by number and declared size, so that a wheel is always split at the same places."""
    batch: Batch = []
    size = 0
    for module in modules:
        assert module.content is not None  # noqa: S101 - a file has content
        batch.append((module, b"".join(module.content())))
        size += module.size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _held(module: Member, path: str, data: bytes) -> Member:
    same = path == module.path
    return Member(
        path=path,
        size=module.size if same else len(data),  # the declared size, which the tar verifies
        content=lambda: iter((data,)),
        executable=module.executable and same,
        sha256=module.sha256 if same else None,
        wheel=module.wheel,
    )


def _worker_ended() -> BuildError:
    return BuildError("the image's Python ended before it had compiled everything")
