"""Profile a stage's service: one container for each pass, started as ``run-STAGE`` starts it, and removed at its end.

The pass ``cpu`` runs the image as it is, and looks at it from outside. In the others, the container sees a folder with
a program that Python loads at its start (`buildkit.profiling.agent`), and a folder to which that program writes. What
comes from there is read as hostile: no links, no devices, not beyond a size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.inspection.profile_exchange import DONE, STARTED, Exchange
from buildkit.inspection.stage_container import grant_own_gpus, missing_needs, prepare_network, warn_of_lacks
from buildkit.profiling.load import LoadCounts, ask_once, sending
from buildkit.profiling.requests_file import ServiceRequest
from buildkit.running.flags import ContainerSpec, run_argv
from buildkit.running.host import find_unsupported
from buildkit.running.mounts import BindMount
from buildkit.tools import podman
from buildkit.tools.py_spy import Sampling, find_python, record_samples

PASSES = ("cpu", "frameworks", "memory")
PROBES = tuple(ServiceRequest(target=path) for path in ("/readyz", "/healthz", "/health", "/"))
_AGENT, _FOLDER = "/run/xoe-profile/agent", "/run/xoe-profile/out"
_READY_SECONDS, _POLL, _LOOK = 180.0, 0.05, 1.0
_LIFE = 600  # seconds that podman lets a container live beyond those that were asked for, whatever becomes of us


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiling:
    """What to profile: the container, ``python_path`` of its image, the requests (none: a probe), and for how long."""

    container: ContainerSpec
    python_path: str = ""
    requests: tuple[ServiceRequest, ...] = ()
    clients: int = 2
    seconds: int = 5
    rate: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAtWork:
    """A service that has answered: its container, its port on loopback, and the requests that it is sent."""

    name: str
    port: int
    requests: tuple[ServiceRequest, ...]

    def check_alive(self) -> None:
        """Raise BuildError with the end of its log if it has ended."""
        state = podman.inspect_container(self.name)["State"]
        if not state["Running"]:
            how = "out of memory" if state.get("OOMKilled") else f"exit code {state.get('ExitCode')}"
            raise BuildError(f"the service ended while it was profiled ({how})", output=podman.read_log(self.name))


def profile_cpu(profiling: Profiling, output: Path) -> LoadCounts:
    """Sample the service under load from outside, into a trace; return the counts. Raises BuildError."""
    with _serving(profiling, profiling.container) as service:
        pid = find_python(service.name)
        if pid is None:
            raise BuildError("no process of the service is a Python", hint="py-spy knows Python only: use perf")
        with sending(service.port, service.requests, profiling.clients) as counts:
            try:
                record_samples(Sampling(pid=pid, rate=profiling.rate, seconds=profiling.seconds), output)
            except BuildError:
                service.check_alive()  # which says more
                raise
            service.check_alive()
    return counts


def profile_inside(profiling: Profiling, what: str, folder: Path) -> tuple[LoadCounts, Exchange]:
    """Profile ``memory`` or ``frameworks`` in the service's processes; return what they wrote below ``folder``."""
    agent, out = _lay_agent(folder / "agent"), folder / "out"
    out.mkdir()
    out.chmod(0o777)
    path = ":".join(filter(None, (_AGENT, profiling.python_path)))
    given = profiling.container
    container = replace(
        given,
        env=(*given.env, ("PYTHONPATH", path), ("XOE_PROFILE", what), ("XOE_PROFILE_FOLDER", _FOLDER)),
        mounts=(
            *given.mounts,
            BindMount(source=str(agent), target=_AGENT),
            BindMount(source=str(out), target=_FOLDER, writable=True),
        ),
    )
    exchange = Exchange(folder=out)
    with _serving(profiling, container) as service:
        if not exchange.processes():
            raise BuildError(
                f"the service's Python does not load what profiles its {what}",
                hint="python -I and -E ignore PYTHONPATH, -S ignores sitecustomize, and a trimmed root may lack "
                "modules: profile the stage that it is made of, or --only cpu, which looks from outside",
                output=podman.read_log(service.name),
            )
        exchange.say("start")
        exchange.wait(STARTED, service.check_alive)
        with sending(service.port, service.requests, profiling.clients) as counts:
            end = time.monotonic() + profiling.seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(_LOOK, left))
                service.check_alive()
        exchange.say("stop")
        exchange.wait(DONE, service.check_alive)
    return counts, exchange


def _lay_agent(folder: Path) -> Path:
    """Copy the program of the container where every user of it can read it, and nobody can write."""
    folder.mkdir()
    folder.chmod(0o755)
    for name in ("sitecustomize.py", "xoe_profile.py"):
        (folder / name).write_bytes((files("buildkit.profiling.agent") / name).read_bytes())
        (folder / name).chmod(0o644)
    return folder


@contextmanager
def _serving(profiling: Profiling, container: ContainerSpec) -> Iterator[ServiceAtWork]:
    """Start a container and wait for its first answer; it is removed at the end, whatever happens."""
    podman.remove(container.name)  # of a run that was killed: the name is ours
    limited = replace(container, options=(*container.options, f"--timeout={_LIFE + profiling.seconds}"))
    with grant_own_gpus(limited, sys.stderr) as granted, prepare_network(granted) as host:
        lacks = find_unsupported(granted, host)
        warn_of_lacks(lacks, sys.stderr)
        argv = run_argv(granted.on_this_host(), "--detach", lacking=missing_needs(lacks), needed=host.options)
        try:
            podman.start_detached(argv)
            port = _find_port(granted)
            yield ServiceAtWork(name=granted.name, port=port, requests=_await_answer(profiling, granted.name, port))
        finally:
            podman.remove(granted.name)


def _find_port(container: ContainerSpec) -> int:
    first = container.ports[0]
    published = podman.inspect_container(container.name)["NetworkSettings"]["Ports"]
    bound = next((to for name, to in published.items() if name.startswith(f"{first.number}/") and to), None)
    if not bound:
        raise BuildError(f"podman did not publish port {first.number}", output=podman.read_log(container.name))
    return int(bound[0]["HostPort"])


def _await_answer(profiling: Profiling, name: str, port: int) -> tuple[ServiceRequest, ...]:
    """Return the requests to send, once the service has answered the first; without any, the first probe that it has.

    Raises BuildError if it ends, or does not answer in time.
    """
    service = ServiceAtWork(name=name, port=port, requests=profiling.requests)
    end = time.monotonic() + _READY_SECONDS
    looked = 0.0
    while time.monotonic() < end:
        for request in profiling.requests[:1] or PROBES:
            status = ask_once(port, request)
            if 0 < status < (500 if profiling.requests else 400):
                return profiling.requests or (request,)
        if time.monotonic() - looked > _LOOK:
            service.check_alive()
            looked = time.monotonic()
        time.sleep(_POLL)
    asked = profiling.requests[:1] or PROBES
    raise BuildError(
        f"the service did not answer {', '.join(one.target for one in asked)} in {_READY_SECONDS:g} s",
        hint="name requests that it answers: --requests FILE",
        output=podman.read_log(name),
    )
