"""Restart mode: any program, ended and started again after a change. Requests fail meanwhile, as said at the start."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .family import Place
from .loop import Timer
from .program import find_executable


class Restarting:
    """One program, which is replaced by itself."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.pid = 0
        self._again: tuple[tuple[str, ...], float] | None = None
        self._kill: Timer | None = None
        self._stopping = False

    def start(self) -> None:
        """Start the program in a process group of its own."""
        command = self._place.options.command
        defaults = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE]
        try:
            self.pid = os.posix_spawn(find_executable(command[0]), command, os.environ, setpgroup=0, setsigdef=defaults)
        except OSError as error:
            self._place.emit("error", message=f"{command[0]}: {error.strerror}", text="", serving=None)

    def restart(self, files: tuple[str, ...], since: float) -> None:
        """End the program; it is started again when it has ended."""
        self._again = (files, since)
        if self.pid:
            self._end()
        else:
            self._start_again()

    def stop(self) -> None:
        """End the program for good."""
        self._stopping = True
        if self.pid:
            self._end()

    def ended(self, pid: int, code: int) -> None:
        """A process has ended: if it is the program, start it again if that is due."""
        if pid != self.pid:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # what it left behind
        self.pid = 0
        if self._kill is not None:
            self._kill.cancel()
        if self._stopping:
            return
        if self._again is None:
            about = {"code": code} if code >= 0 else {"signal": signal.Signals(-code).name}
            self._place.emit("exited", **about, text="the next change starts it again")
        else:
            self._start_again()

    def _start_again(self) -> None:
        files, since = self._again or ((), time.time())
        self._again = None
        self.start()
        if self.pid:
            ms = max(0, round((time.time() - since) * 1000))
            why = "the program is restarted after each change"
            self._place.emit("restarted", file=files[0] if files else None, files=len(files), ms=ms, why=why)

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        if self._kill is not None:
            self._kill.cancel()
        self._kill = self._place.loop.later(self._place.options.stop_seconds, lambda: self._signal(signal.SIGKILL))

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.killpg(self.pid, number)
