"""A service in a container for the time of a measurement: how fast it starts, and what it uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from types import TracebackType

from buildkit.errors import BuildError
from buildkit.tools import podman
from buildkit.tools.cgroups import CgroupReader

_NAME = "buildkit-bench-serve"
_POLL = 0.005
_EVERY = 0.05  # seconds between looks at memory
_LIMIT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedImage:
    """An image to serve: ``name`` in tables, more options of ``podman run``, and the path that says it is ready."""

    name: str
    image: str
    options: tuple[str, ...] = ()
    ready: str = "/readyz"
    port: int = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedContainer:
    """A running container: its port on loopback, first process, id, and seconds from ``podman run`` until ready.

    ``cpu`` are the seconds of CPU that it had used by then, None if the host does not say.
    """

    port: int
    pid: int
    id: str
    started: float
    cpu: float | None

    @property
    def url(self) -> str:
        """The address that takes audio."""
        return f"http://127.0.0.1:{self.port}/v1/speech"


@contextmanager
def serving(served: ServedImage) -> Iterator[ServedContainer]:
    """Serve an image until the block ends. Raises ToolError, and BuildError if it is not ready in two minutes."""
    argv = ("podman", "run", "--detach", f"--name={_NAME}", f"--publish=127.0.0.1::{served.port}")
    own = podman.probe_host().options
    podman.remove(_NAME)  # of a measurement that was killed
    began = time.monotonic()
    try:
        podman.start_detached((*argv, *own, *served.options, served.image))
        about = podman.inspect_container(_NAME)
        port = int(about["NetworkSettings"]["Ports"][f"{served.port}/tcp"][0]["HostPort"])
        _await(port, served.ready)
        took = time.monotonic() - began
        pid, name = int(about["State"]["Pid"]), str(about["Id"])
        yield ServedContainer(port=port, pid=pid, id=name, started=took, cpu=_read_cpu(pid, name))
    finally:
        podman.remove(_NAME, 10)


def _read_cpu(pid: int, name: str) -> float | None:
    reader = CgroupReader()
    usage = reader.read_usage(reader.find_files(pid, name), pid, network=False)
    return None if usage is None else usage.cpu_seconds


def _await(port: int, path: str) -> None:
    end = time.monotonic() + _LIMIT
    while _ask(port, path) != 200:
        if time.monotonic() > end:
            raise BuildError(f"{path} did not answer 200 in time", output=podman.read_log(_NAME))
        time.sleep(_POLL)


def _ask(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


class UsageWatch:
    """Looks at a container's control group until the block ends.

    ``peak`` is its highest working set in bytes (memory without idle cache, as Kubernetes counts), ``cpu`` the seconds
    of CPU that it used meanwhile; None if the host does not say.
    """

    def __init__(self, container: ServedContainer) -> None:
        self.peak: int | None = None
        self.cpu: float | None = None
        self._container = container
        self._reader = CgroupReader()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> UsageWatch:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        files = self._reader.find_files(self._container.pid, self._container.id)
        first: float | None = None
        ended = False
        while not ended:
            ended = self._ended.wait(_EVERY)
            usage = self._reader.read_usage(files, self._container.pid, network=False)
            if usage is None:
                continue
            if usage.working_set is not None:
                self.peak = max(self.peak or 0, usage.working_set)
            if usage.cpu_seconds is not None:
                first = usage.cpu_seconds if first is None else first
                self.cpu = usage.cpu_seconds - first
