"""Second opinions on model files from ``picklescan`` and ``modelaudit-picklescan``, if installed.

Each reads each file in a process of its own with limits on time and memory, because files are hostile.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

from buildkit.errors import ToolError
from buildkit.lazy_dataclass import dataclass
from buildkit.tools.opinion_engines import Engine
from buildkit.tools.process import Command, converse

_WORKER = Path(__file__).with_name("second_opinion_worker.py")
_SECONDS = 120
_MEMORY = 4 << 30
_LONGEST = 200
_ALL = 1 << 62  # bytes
_LACKS = re.compile(r"ModuleNotFoundError: No module named '(\w+)[\w.]*'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Another scanner's verdict on a file: ``unsafe`` (None: no verdict), ``why``, and whether it ``failed``."""

    engine: Engine
    unsafe: bool | None
    why: str
    failed: bool = False


class SecondOpinions:
    """Asks engines about files; threads share it. Their process runs from the first question until nobody needs it.

    It imports the engines once, and forks for each of them and each file.
    """

    def __init__(self, engines: tuple[Engine, ...]) -> None:
        self._engines = engines
        self._lock = threading.Lock()
        self._users = 0
        self._running = ExitStack()
        self._pipes: tuple[BinaryIO, BinaryIO] | None = None

    def start(self) -> None:
        """Start the process before the first question."""
        with self._lock:
            self._start()

    def close(self) -> None:
        """End the process, whoever needs it."""
        with self._lock:
            self._end()

    @contextmanager
    def needed(self) -> Iterator[Self]:
        """Keep the process in this block, if it is started there."""
        with self._lock:
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._end()

    def ask(
        self, path: Path, *, most: int = _ALL, seconds: int = _SECONDS, memory: int = _MEMORY
    ) -> tuple[Opinion, ...]:
        """Return each engine's verdict within ``seconds`` of processor time and ``memory`` bytes. Raises Interrupted.

        ``most`` bytes of the file are enough for one that reads before it looks. picklescan depends on the suffix, so
        ``path`` must have the file's real name.
        """
        question = json.dumps([str(path), most, seconds, memory]).encode() + b"\n"
        with self._lock:
            to, answers = self._start()
            with suppress(BrokenPipeError):
                to.write(question)
                to.flush()
            try:
                answer = json.loads(answers.readline())
            except ValueError:  # it was killed: its group is on a stop, or the kernel lacked memory
                self._end()
                return tuple(_failed(engine, "it was ended") for engine in self._engines)
        return tuple(_read_answer(engine, *one) for engine, one in zip(self._engines, answer, strict=True))

    def _start(self) -> tuple[BinaryIO, BinaryIO]:
        if self._pipes is None:
            argv = (sys.executable, "-P", str(_WORKER), *(engine.name for engine in self._engines))
            self._pipes = self._running.enter_context(converse(Command(argv=argv, what="other scanners")))
        return self._pipes

    def _end(self) -> None:
        self._pipes = None
        with suppress(ToolError):  # its answers have been read
            self._running.close()


def _read_answer(engine: Engine, status: int, output: str, error: str) -> Opinion:
    if status:
        how = f"was killed by {signal.strsignal(-status)}" if status < 0 else f"failed with exit code {status}"
        last = (error.splitlines() or [how])[-1]
        if lacks := _LACKS.fullmatch(last):
            return _failed(engine, f"it needs {lacks[1]}, which is not installed (uv pip install {lacks[1]})")
        return _failed(engine, f"{engine.name} {how}: {last}")
    try:
        answer = json.loads(output)
        unsafe, complete, issues = bool(answer["unsafe"]), bool(answer["complete"]), list(map(str, answer["issues"]))
    except (ValueError, KeyError, TypeError):
        return _failed(engine, "its answer cannot be read")
    if unsafe:
        return Opinion(engine=engine, unsafe=True, why=", ".join(issues)[:_LONGEST])
    if not complete:
        return Opinion(engine=engine, unsafe=None, why="it could not read all of it as pickles")
    return Opinion(engine=engine, unsafe=False, why="")


def _failed(engine: Engine, why: str) -> Opinion:
    return Opinion(engine=engine, unsafe=None, why=why[:_LONGEST], failed=True)
