"""The file by which the reading half of the monitor gives the serving half its figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from buildkit.monitor.metrics import gauge
from buildkit.monitor.state import MonitorState, parse_state, render_state

FILE = "state.json"
_STALE = 30.0  # seconds without a change, after which figures would tell of the past
_CHECKED = 0.5  # seconds between two looks at the file
_MOST = 64 << 20  # bytes
_OWN = "xoe_monitor_"  # metrics that stay true when the others are old


def write_feed(folder: Path, state: MonitorState) -> None:
    """Replace the file; a reader sees the old or the new one. Raises OSError.

    It is not flushed to the disk: after a crash of the host, figures of before are of no use.
    """
    path = folder / f".{FILE}.new"  # one writer a folder
    path.write_bytes(render_state(state))
    path.chmod(0o644)  # the serving half is another user
    path.replace(folder / FILE)


class FeedReader:
    """The states that another process writes into ``folder``. Threads may share it.

    ``clock`` is never set back: age is counted from when the file was seen to change, so that the time of day may jump.
    What the file says of its own age counts only for one that was there before.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._path, self._clock, self._wall = folder / FILE, clock, wall
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._state: MonitorState | None = None
        self._problem = ""
        self._changed = self._checked = clock() - _STALE

    def state(self) -> MonitorState:
        """Return the last state. One that is old, or cannot be read, has only the metrics of the monitor itself."""
        with self._lock:
            now = self._clock()
            if abs(now - self._checked) >= _CHECKED:
                self._look(now)
                self._checked = now
            age = max(0.0, now - self._changed)
            known = self._state or MonitorState(time=self._wall())
            own = gauge("xoe_monitor_state_age_seconds", "How long the figures have not changed.", ((), round(age, 3)))
            problem = self._problem or (f"the figures are {age:.0f} s old" if age > _STALE else known.problem)
            if not self._problem and age <= _STALE:
                return replace(known, families=(*known.families, own))
            kept = tuple(one for one in known.families if one.name.startswith(_OWN))
            return MonitorState(time=known.time, families=(*kept, own), problem=problem)

    def _look(self, now: float) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            if found.st_size > _MOST:
                raise ValueError(f"it has {found.st_size} bytes")
            state = parse_state(self._path.read_bytes())
        except FileNotFoundError:
            self._problem = f"{self._path} is not there: the reading half does not run"
            return
        except (OSError, ValueError) as error:
            self._problem = f"{self._path}: {getattr(error, 'strerror', None) or error}"
            return
        first = self._seen is None
        self._changed = now - max(0.0, self._wall() - state.time) if first else now
        self._seen, self._state, self._problem = seen, state, ""
