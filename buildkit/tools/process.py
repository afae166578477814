"""Run child processes; the only importer of ``subprocess``. An exit code that is not accepted is a failure."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, BinaryIO, cast

from buildkit.errors import Interrupted, MissingTool, ToolError, describe_full_disk
from buildkit.lazy_dataclass import dataclass
from buildkit.tools.disk_full import is_disk_full
from buildkit.tools.interrupts import deferred_interrupts
from buildkit.tools.usage import record_child

_KEPT_OUTPUT = 64 * 1024
_POLL_SECONDS = 0.002
_APT_NAMES = {
    "newuidmap": "uidmap",
    "docker": "docker.io",
    "h2load": "nghttp2-client",
    "podman": "podman nftables",
}  # podman only suggests what its networks need

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
_stopping = threading.Event()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run: arguments, additions to the environment, accepted exit codes and limits."""

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    accept: tuple[int, ...] = (0,)
    stdin: bytes | None = None
    what: str = ""
    is_cleanup: bool = False  # runs even after a stop, because it removes what this process made
    is_whole: bool = False  # ``run`` lets it end once it has begun: interrupted, it would leave something behind
    grace: float = 10.0  # seconds to end after SIGTERM
    inherits: tuple[int, ...] = ()  # file descriptors that it keeps open
    writes: tuple[Path | str, ...] = ()  # the disks to check for free space if it fails without a reason
    stall_seconds: float = 0.0  # seconds without a byte read or written until ``run`` ends it; 0: never

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The result of a command: exit code, standard output and standard error."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output, decoded and stripped."""
        return self.stdout.decode("utf-8", "replace").strip()


class _MeteredChild(subprocess.Popen[bytes]):
    """A child whose resource usage is recorded for the thread that waits for it."""

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and self._await_end(timeout):
            record_child(self.pid)
            timeout = None
        return super().wait(timeout)

    def _await_end(self, timeout: float | None) -> bool:
        """Return whether it ended within ``timeout``; it is not reaped yet, so that its resource usage can be read."""
        end = None if timeout is None else time.monotonic() + timeout
        with suppress(ChildProcessError):  # already reaped
            while not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | (os.WNOHANG if end else 0)):
                if end is not None and time.monotonic() > end:
                    return False
                time.sleep(_POLL_SECONDS)
            return True
        return False


def find_tool(name: str) -> str | None:
    """Return the program's path, or None."""
    return shutil.which(name)


def require_tool(name: str) -> str:
    """Return the program's path. Raises MissingTool with the command that installs it."""
    path = find_tool(name)
    if path is None:
        sudo = "sudo " if os.geteuid() else ""
        raise MissingTool(f"{name} is not installed", hint=f"run: {sudo}apt-get install {_APT_NAMES.get(name, name)}")
    return path


def run(command: Command) -> CommandResult:
    """Run to the end. Raises MissingTool, ToolError (exit code not accepted) or Interrupted."""
    stdin = subprocess.PIPE if command.stdin is not None else subprocess.DEVNULL
    with deferred_interrupts() if command.is_whole else nullcontext(), start(command, stdin=stdin) as child:
        stdout, stderr = _communicate(child, command)
    return _check(command, child.returncode, stdout, stderr)


@contextmanager
def start(command: Command, *, stdin: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child with pipes; on leaving, it is killed with its process group unless it has ended."""
    require_tool(command.argv[0])
    if _stopping.is_set() and not command.is_cleanup:
        raise Interrupted("interrupted")
    child = _spawn(command, stdin)
    try:
        _register(child, command)
        yield child
    finally:
        _end(child, command.grace)
        with _lock:
            _running.discard(child)


def _spawn(command: Command, stdin: int) -> _MeteredChild:
    try:
        return _MeteredChild(
            command.argv,
            env=None if command.env is None else {**os.environ, **command.env},
            cwd=command.cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=command.inherits,
            start_new_session=True,  # Ctrl-C reaches only this process, which decides the order of stopping
        )
    except (PermissionError, FileNotFoundError) as error:
        if error.filename != command.argv[0]:  # its folder
            raise
        path = require_tool(command.argv[0])
        raise MissingTool(f"{path} cannot be started: {error.strerror}", hint=_explain_start(path)) from error


def _explain_start(path: str) -> str:
    """Return what to do about a program that is there and does not start, if its interpreter is out of reach."""
    with suppress(OSError), Path(path).open("rb") as file:
        words = file.readline(1024).split()
        if words and words[0].startswith(b"#!"):
            interpreter = os.fsdecode(words[0][2:] or words[1])
            if not os.access(interpreter, os.X_OK):
                return f"it needs {interpreter}, which this user cannot run: install it anew, for this user or for all"
    return ""


def _ignore_line(_line: bytes) -> None:
    """Ignore a line of error output."""


def stream(command: Command, watch: Callable[[bytes], None] = _ignore_line) -> Generator[bytes, None, None]:
    """Yield standard output in chunks while the command runs. Raises as ``run`` does, at the end.

    Closing the generator ends the command. ``watch`` gets the lines of its error output, in another thread.
    """
    with start(command, stdin=subprocess.DEVNULL) as child:
        tail = bytearray()
        reader = threading.Thread(target=_keep_tail, args=(child.stderr, tail, watch), daemon=True)
        reader.start()
        assert child.stdout is not None  # noqa: S101 - start() made the pipe
        try:
            while chunk := child.stdout.read(1 << 20):
                yield chunk
        except BaseException:
            _end(child, command.grace, unread=child.stdout)
            raise
        child.wait()
        reader.join()
    _check(command, child.returncode, b"", bytes(tail))


@contextmanager
def converse(command: Command) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Give standard input and output of a running child; on leaving, close its input and check its exit code.

    The rest of its output is discarded. Raises as ``run`` does; if the block raises, the child is killed.
    """
    with start(command) as child:
        tail = bytearray()
        reader = threading.Thread(target=_keep_tail, args=(child.stderr, tail), daemon=True)
        reader.start()
        assert child.stdin is not None  # noqa: S101 - start() made the pipes
        assert child.stdout is not None  # noqa: S101
        yield cast("BinaryIO", child.stdin), cast("BinaryIO", child.stdout)
        with suppress(BrokenPipeError):  # it ended before reading everything: its exit code is reported
            child.stdin.close()
        while child.stdout.read(1 << 20):
            pass
        child.wait()
        reader.join()
    _check(command, child.returncode, b"", bytes(tail))


def stop_all() -> None:
    """Terminate every running child with its process group; later starts raise Interrupted.

    Commands with ``is_cleanup`` or ``is_whole`` are exempt and are waited for.
    """
    _stopping.set()
    with _lock:
        children = list(_running)
    for child in children:
        _signal(child, signal.SIGTERM)


def _register(child: subprocess.Popen[bytes], command: Command) -> None:
    """Register the child for ``stop_all``; a child started during a stop is stopped here."""
    if command.is_cleanup or command.is_whole:
        return
    with _lock:
        _running.add(child)
        late = _stopping.is_set()
    if late:
        _signal(child, signal.SIGTERM)


def _communicate(child: subprocess.Popen[bytes], command: Command) -> tuple[bytes, bytes]:
    data, moved, since = command.stdin, -1, 0.0
    while True:
        try:
            return child.communicate(data, timeout=command.stall_seconds / 8 if command.stall_seconds else None)
        except subprocess.TimeoutExpired:
            data = None  # communicate() keeps what is not sent yet
            now = _bytes_moved(child.pid)
            if now is None or now != moved:
                moved, since = now or 0, time.monotonic()
            elif time.monotonic() - since >= command.stall_seconds:
                reason = f"nothing came or went for {command.stall_seconds:.0f} s"
                raise ToolError(f"{command.what or f'`{command}`'} was ended: {reason}", output=reason) from None


def _bytes_moved(pid: int) -> int | None:
    """Return the bytes that a process has read and written, files and network; None if that is unknown."""
    with suppress(OSError, ValueError):
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return int(fields["rchar"]) + int(fields["wchar"])
    return None


def _keep_tail(pipe: BinaryIO, tail: bytearray, watch: Callable[[bytes], None] = _ignore_line) -> None:
    with suppress(ValueError):  # closed by another thread after an error: the rest is not needed
        for line in pipe:
            watch(line)
            tail += line
            del tail[:-_KEPT_OUTPUT]


def _end(child: subprocess.Popen[bytes], grace: float, *, unread: IO[bytes] | None = None) -> None:
    if child.poll() is None:
        _signal(child, signal.SIGTERM)
        if unread:  # it must not hang on a full pipe while it cleans up, nor end by a broken one before the signal
            unread.close()
        try:
            child.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)
            child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # the child ended before reading everything: its exit code is reported


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return  # it ended in the meantime


def name_signal(number: int) -> str:
    """Return the name of a signal, such as ``SIGKILL``; a real-time signal has a number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal


def _check(command: Command, code: int, stdout: bytes, stderr: bytes) -> CommandResult:
    if code in command.accept:
        return CommandResult(code=code, stdout=stdout, stderr=stderr)
    if _stopping.is_set():
        raise Interrupted("interrupted")
    what = command.what or f"`{command}`"
    how = f"was killed by {name_signal(-code)}" if code < 0 else f"failed with exit code {code}"
    output = (stdout[-_KEPT_OUTPUT:] + stderr[-_KEPT_OUTPUT:]).decode("utf-8", "replace").strip()
    if full := describe_full_disk(output):
        hint = "the output says where; free some room there. nox -s cache -- gc removes what is not needed"
        raise ToolError(f"{what} {how}: {full}", hint=hint, output=output)
    for place in filter(is_disk_full, command.writes):
        hint = f"free some room at {place}; nox -s cache -- gc removes what is not needed"
        raise ToolError(f"{what} {how}: the disk is full", hint=hint, output=output)
    raise ToolError(f"{what} {how}", output=output)
