"""The event loop of process 1: descriptors, timers and signals, in one thread."""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Callback = Callable[[], Any]


@dataclass(order=True, slots=True)
class Timer:
    """A callback at a time; cancel it by `cancel`."""

    at: float
    number: int
    call: Callback | None = field(compare=False)

    def cancel(self) -> None:
        """Call nothing."""
        self.call = None


class Loop:
    """Calls what was registered until it is stopped."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._signals: dict[int, Callback] = {}
        self._stopped = False
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.read(self._woken, self._dispatch_signals)

    def read(self, source: Any, call: Callback) -> None:
        """Call when there is something to read, until `forget`."""
        self._selector.register(source, selectors.EVENT_READ, call)

    def write(self, source: Any, call: Callback) -> None:
        """Call when something can be written, until `forget`."""
        self._selector.register(source, selectors.EVENT_WRITE, call)

    def forget(self, source: Any) -> None:
        """Call no longer; it does no harm if nothing was registered."""
        try:
            self._selector.unregister(source)
        except (KeyError, ValueError):
            return

    def later(self, seconds: float, call: Callback) -> Timer:
        """Call once after some time."""
        timer = Timer(time.monotonic() + seconds, next(self._numbers), call)
        heapq.heappush(self._timers, timer)
        return timer

    def on_signal(self, number: int, call: Callback) -> None:
        """Call in the loop after a signal."""
        self._signals[number] = call
        signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def stop(self) -> None:
        """Return from `run` after the present callbacks."""
        self._stopped = True

    def run(self) -> None:
        """Call what is due, until `stop`."""
        while not self._stopped:
            wait = max(0.0, self._timers[0].at - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(wait):
                if key.fd in self._selector.get_map() and self._selector.get_key(key.fd).data is key.data:
                    key.data()
            while self._timers and self._timers[0].at <= time.monotonic():
                timer = heapq.heappop(self._timers)
                if timer.call is not None:
                    timer.call()

    def _dispatch_signals(self) -> None:
        for number in sorted(set(self._woken.recv(4096))):
            if number in self._signals:
                self._signals[number]()
