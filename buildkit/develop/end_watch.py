"""Tells of containers that end although nobody of ours ended them: killed, out of memory, or by themselves."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

from buildkit.errors import BuildkitError
from buildkit.report.loop_view import Said, Tell
from buildkit.running.environment import RunningEnvironment
from buildkit.services.labels import environment_labels
from buildkit.tools.podman_objects import FoundContainer, list_containers
from buildkit.tools.process import name_signal

_AGAIN = 200  # milliseconds until podman is asked again that does not know yet
_RUNNING = "running"


class EndWatch(threading.Thread):
    """Watches the containers of an environment until ``close``, but for what actions that it is ``excusing`` end.

    A handle of a container's first process says at once that it has ended, and costs nothing until then; podman is
    asked when one does, and after each action.
    """

    def __init__(self, environment: RunningEnvironment, tell: Tell) -> None:
        super().__init__(name="ends", daemon=True)
        self._labels = environment_labels(environment)
        services = [one for one in environment.services if one.name not in environment.jobs]
        self._services = {one.container.name: one.name for one in services}
        self._held: dict[str, tuple[int, int | None]] = dict.fromkeys(self._services, (0, None))  # process and handle
        self._tell = tell
        self._rest = threading.Condition()
        self._acting = 0
        self._turn = 0  # counts beginnings and ends of actions
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)

    def excusing(self, action: Callable[[str], object]) -> Callable[[str], None]:
        """Return an action that may end containers: of those that do not run when it has ended is told."""

        def act(name: str) -> None:
            self._count(1)
            try:
                action(name)
            finally:
                self._count(-1)

        return act

    def close(self) -> None:
        """Watch no longer, and return when nothing more is told."""
        self._closed = True
        self._count(0)
        self.join()
        os.close(self._wake)

    def run(self) -> None:
        """Tell of each end, once; and if podman cannot be asked, that no more is told."""
        with suppress(OSError):  # nobody hears any more
            try:
                self._watch()
            except BuildkitError as error:
                why = error.in_a_line()
                self._tell(Said(event="unwatched", text=f"ends of containers are not told any more: {why}"))
        for name in tuple(self._held):
            self._release(name)

    def _watch(self) -> None:
        while self._await_rest():
            self._await_end(_AGAIN if self._look() else None)

    def _count(self, by: int) -> None:
        with self._rest:
            self._acting += by
            self._turn += 1
            self._rest.notify()
        os.eventfd_write(self._wake, 1)

    def _await_rest(self) -> bool:
        """Wait until no action runs; return whether to go on."""
        with self._rest:
            self._rest.wait_for(lambda: self._closed or not self._acting)
        return not self._closed

    def _await_end(self, timeout: int | None) -> None:
        """Wait until a container ends, or an action begins or ends."""
        poll = select.poll()
        for handle in (self._wake, *(handle for _, handle in self._held.values() if handle is not None)):
            poll.register(handle, select.POLLIN)
        poll.poll(timeout)
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _look(self) -> bool:
        """Tell of what has ended, and hold what runs; return whether podman has yet to notice an end."""
        turn = self._turn
        ended = [name for name, (_, handle) in self._held.items() if handle is None or _has_ended(handle)]
        found = {one.name: one for one in list_containers(self._labels)}
        if turn != self._turn:  # it may be the action's
            return False
        late = False
        for name, service in self._services.items():
            container = found.get(name)
            runs = container is not None and container.state == _RUNNING
            if name in ended:
                if container is not None and runs and container.pid == self._held[name][0]:
                    late = True
                    continue
                self._release(name)
                if not runs:
                    self._tell(_describe(service, name, container))
            if container is not None and runs and name not in self._held:
                self._hold(container)
        return late

    def _hold(self, container: FoundContainer) -> None:
        try:
            self._held[container.name] = (container.pid, os.pidfd_open(container.pid))
        except ProcessLookupError:  # it has just ended
            self._held[container.name] = (container.pid, None)
        except OSError:
            return  # a kernel without such handles: nothing is told

    def _release(self, name: str) -> None:
        _, handle = self._held.pop(name)
        if handle is not None:
            os.close(handle)


def _has_ended(handle: int) -> bool:
    return bool(select.select([handle], [], [], 0)[0])


def _describe(service: str, name: str, container: FoundContainer | None) -> Said:
    details = (("service", service), ("container", name))
    if container is None:
        return Said(event="ended", text=f"{service}: its container was removed", details=details)
    code = container.exit_code
    how = f"exit code {code}" + (f", {name_signal(code - 128)}" if code > 128 else "")
    text = f"{service}: its container ended with {how}; podman logs {name} shows its log"
    return Said(event="ended", text=text, details=(*details, ("exit_code", str(code))))
