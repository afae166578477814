"""Start a container with the recommended flags, observe it from the host and from inside, and stop it."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from buildkit.audit.running import Health, Observation, check_running
from buildkit.build.planner import Planner
from buildkit.declare.ports import LOOPBACK, PublishedPort
from buildkit.findings import Finding
from buildkit.inspection.audit_target import describe_target
from buildkit.inspection.lent_needs import lent_needs
from buildkit.inspection.stage_container import (
    grant_own_gpus,
    missing_needs,
    prepare_network,
    warn_of_lacks,
)
from buildkit.running.flags import ContainerSpec, run_argv
from buildkit.running.host import PodmanHost, find_unsupported
from buildkit.running.proc import (
    ListeningSocket,
    parse_cgroup_limit,
    parse_default_routes,
    parse_listening,
    parse_mounts,
    parse_status,
)
from buildkit.shell import load_script
from buildkit.tools import podman

_CGROUPS = Path("/sys/fs/cgroup")
_NAMESPACES = ("pid", "net", "ipc", "uts", "mnt")
_POLL = 0.1
_WAIT = 30.0  # seconds to become healthy, beyond the declared start period
_SETTLE = 1.0  # seconds in which a container without port and health check may fail
_LIMITS = {"memory": ("memory.max", "memory.limit_in_bytes"), "pids": ("pids.max",)}  # cgroups v2, v1

_PLACES = ("/", "/etc", "/usr", "/usr/bin", "/usr/local/bin", "/usr/lib", "/var", "/var/tmp", "/run", "/opt", "/root")  # noqa: S108


def audit_running(planner: Planner, target: str) -> tuple[Finding, ...]:
    """Return the findings in a running image of a stage, or in another image; warn on stderr of what this host lacks.

    Raises DefinitionError, and BuildError if no container can be started.
    """
    with lent_needs(planner, target, describe_target(planner, target)) as container:
        return check_running(observe(container))


def observe(container: ContainerSpec, without: frozenset[str] = frozenset()) -> Observation:
    """Start a container, observe it, stop it, and remove it. Raises BuildError if it cannot be started.

    ``without`` omits flags, by what they need, to test the findings about them. A container that asks for GPUs is
    observed without them where it cannot have them.
    """
    may_lack = replace(container, gpu=replace(container.gpu, optional=True)) if container.gpu else container
    with grant_own_gpus(may_lack, sys.stderr) as granted:
        return _observe(granted, without)


def _observe(container: ContainerSpec, without: frozenset[str]) -> Observation:
    with prepare_network(container) as host:
        lacks = find_unsupported(container, host)
        warn_of_lacks([lack for lack in lacks if lack.needs != "health"], sys.stderr)  # that is run here
        try:
            omitted = missing_needs(lacks) | without
            podman.start_detached(run_argv(container.on_this_host(), "--detach", lacking=omitted, needed=host.options))
            return _Probe(container, host).observe()
        finally:
            podman.remove(container.name)


class _Probe:
    """The observation of one container."""

    def __init__(self, container: ContainerSpec, host: PodmanHost) -> None:
        self._container = container
        self._host = host
        self._name = container.name
        self._id = ""

    def observe(self) -> Observation:
        health, silent = self._await()
        details = podman.inspect_container(self._name)
        self._id = str(details["Id"])
        state = details["State"]
        observation = Observation(
            tmpfs=self._container.places,
            ports=tuple(f"{port.number}/{port.protocol}" for port in self._container.ports),
            outgoing=self._container.running.outgoing,
            stop_seconds=self._container.running.stop_seconds,
        )
        if not state["Running"]:
            return replace(observation, ended=(int(state["ExitCode"]), podman.read_log(self._name)))
        observation = self._look_inside(observation, int(state["Pid"]))
        if health is not None and health.code == 0:
            health = replace(health, code_halted=self._ask_halted())
        podman.stop(self._name, observation.stop_seconds)
        code = int(podman.inspect_container(self._name)["State"]["ExitCode"])
        return replace(observation, health=health, silent=silent, stopped=code)

    def _await(self) -> tuple[Health | None, tuple[str, ...]]:
        """Wait until the container is healthy and answers, has ended, or its time is up."""
        declared = self._container.health
        patience = _WAIT + (declared.start_period if declared else 0)
        if declared is None and not self._container.ports:
            patience = _SETTLE
        until = time.monotonic() + patience
        while True:
            health = self._ask() if declared else None
            silent = tuple(port for port in self._container.ports if not self._answers(port))
            waits = declared is None and not self._container.ports
            if (not waits and not silent and (health is None or health.code == 0)) or time.monotonic() > until:
                return health, tuple(f"{port.number}/{port.protocol}" for port in silent)
            if not podman.inspect_container(self._name)["State"]["Running"]:
                return health, ()
            time.sleep(_POLL)

    def _ask(self) -> Health:
        finished = podman.check_health(self._name)
        return Health(code=finished.code, output=(finished.stdout + finished.stderr).decode("utf-8", "replace").strip())

    def _answers(self, port: PublishedPort) -> bool:
        """Return whether a port accepts a connection; a UDP port cannot tell."""
        if port.protocol != "tcp":
            return True
        published = podman.inspect_container(self._name)["NetworkSettings"]["Ports"]
        bound = published.get(f"{port.number}/tcp") or []
        with (
            suppress(OSError, KeyError, IndexError),
            socket.create_connection((LOOPBACK, int(bound[0]["HostPort"])), 2),
        ):
            return True
        return False

    def _ask_halted(self) -> int:
        """Return the exit code of the health check while all processes are halted; 124 if it does not end."""
        declared = self._container.health
        late = threading.Event()
        with self._halted() as go_on:

            def free() -> None:
                late.set()
                go_on()

            timer = threading.Timer((declared.timeout if declared else 0) + 5.0, free)
            timer.start()
            try:
                code = podman.check_health(self._name).code
            finally:
                timer.cancel()
        return 124 if late.is_set() else code

    @contextmanager
    def _halted(self) -> Iterator[Any]:
        pids = self._pids()

        def go_on() -> None:
            self._signal(pids, signal.SIGCONT)

        self._signal(pids, signal.SIGSTOP)
        try:
            yield go_on
        finally:
            go_on()

    def _signal(self, pids: Sequence[int], number: signal.Signals) -> None:
        podman.signal_pids(pids, number, rootless=self._host.rootless)

    def _pids(self) -> tuple[int, ...]:
        """Return the process ids of the container on the host."""
        return podman.list_pids(self._name)

    # what the kernel reports

    def _look_inside(self, observation: Observation, pid: int) -> Observation:
        proc_files = self._read(pid, ("mountinfo", "environ", "net/route", "net/ipv6_route", "cgroup"))
        processes = [self._read(process_id, ("status",))["status"] for process_id in self._pids()]
        environment = tuple(line for line in proc_files["environ"].split("\0") if line)
        return replace(
            observation,
            processes=tuple(parse_status(text) for text in processes if text),
            environment=environment,
            mounts=parse_mounts(proc_files["mountinfo"]),
            written=self._try_to_write(environment),
            memory=self._limit(proc_files["cgroup"], "memory"),
            pids=self._limit(proc_files["cgroup"], "pids"),
            listening=tuple(self._listening(pid)),
            ways_out=parse_default_routes(proc_files["net/route"], proc_files["net/ipv6_route"]),
            shared=tuple(name for name in _NAMESPACES if self._is_shared(pid, name)),
        )

    def _listening(self, pid: int) -> Iterator[ListeningSocket]:
        for protocol in ("tcp", "udp"):
            for name in (protocol, f"{protocol}6"):
                yield from parse_listening(self._read(pid, (f"net/{name}",))[f"net/{name}"], protocol)

    def _read(self, pid: int, names: Sequence[str]) -> dict[str, str]:
        """Read files below /proc/PID in podman's user namespace; a missing file is empty."""
        return {name: podman.read_proc(f"/proc/{pid}/{name}", rootless=self._host.rootless) for name in names}

    def _is_shared(self, pid: int, name: str) -> bool:
        own = str(Path(f"/proc/self/ns/{name}").readlink())
        return podman.read_link(f"/proc/{pid}/ns/{name}", rootless=self._host.rootless) == own

    def _limit(self, cgroup: str, controller: str) -> int | None:
        """Return the lowest limit of the container's own cgroups; limits of the engine as a whole do not count."""
        limits: list[int | None] = []
        for line in cgroup.splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            group = _CGROUPS / (controller if controllers else "") / path.lstrip("/")
            for folder in (group, *group.parents):
                if self._id in str(folder):
                    limits += [_read_limit(folder / name) for name in _LIMITS[controller]]
        return min((limit for limit in limits if limit is not None), default=None)

    # the rights of the container's user

    def _try_to_write(self, environment: Sequence[str]) -> tuple[str, ...] | None:
        variables = dict(line.partition("=")[::2] for line in environment)
        workdir = str(podman.inspect_container(self._name)["Config"].get("WorkingDir") or "/")
        more = (
            workdir,
            variables.get("VIRTUAL_ENV", ""),
            variables.get("HOME", ""),
            *variables.get("PATH", "").split(":"),
        )
        places = [place for place in dict.fromkeys((*_PLACES, *more)) if place.startswith("/")]
        for python in ("python", "python3"):
            tried = podman.execute(self._name, (python, "-I", "-c", _write_probe(), json.dumps(places)))
            if tried.code == 0 and (found := parse_written(tried.text)) is not None:
                return found
        tried = podman.execute(self._name, ("/bin/sh", "-c", load_script("list_writable"), "sh", *places))
        return tuple(tried.text.splitlines()) if tried.code == 0 else None


def _read_limit(path: Path) -> int | None:
    with suppress(OSError):
        return parse_cgroup_limit(path.read_text("ascii"))
    return None


def parse_written(text: str) -> tuple[str, ...] | None:
    """Return the paths that a container's Python named, None if it is none that says so."""
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        return tuple(map(str, found)) if isinstance(found, list) else None
    return None


def _write_probe() -> str:
    return (files("buildkit.inspection") / "write_probe.py").read_text("utf-8")
