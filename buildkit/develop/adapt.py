"""How a service of an environment is started for development: with staged folders, and below the reloader. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildkit.declare.ports import PublishedPort
from buildkit.declare.services import Reload
from buildkit.running.environment import RunningService
from buildkit.running.flags import ContainerSpec
from buildkit.running.mounts import BindMount, VolumeMount

RELOADER = "/opt/buildkit-reload"
RELOADER_FOLDER = Path(__file__).parents[1] / "reload"
CONTROL = "/run/buildkit-dev"
SOCKET = "control"
STATE = "/var/lib/buildkit-reload"
DEBUG_PORT = 5678
_PYTHON = re.compile(r"python(?:3(?:\.[0-9]+)?)?")
_SERVERS = ("daphne", "fastapi", "flask", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve")
_INITS = ("tini", "dumb-init", "catatonit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadPlan:
    """How the reloader runs a service: folders of the host, the image's ``python``, and what it starts.

    ``program`` is the folder of the reloader, ``control`` the one in which it makes its socket. ``watch`` are folders
    of the application in the container; with ``debug`` it listens for a debugger, with ``wait`` it waits for one.
    """

    program: str
    control: str
    python: str
    command: tuple[str, ...]
    watch: tuple[str, ...] = ()
    settings: Reload = field(default_factory=Reload)
    debug: bool = False
    wait: bool = False


def stage_files(service: RunningService, mounts: Sequence[tuple[str, str]]) -> RunningService:
    """Return the service with staged folders (of the host, of the container) mounted read-only."""
    staged = tuple(BindMount(source=source, target=target) for source, target in mounts)
    container = service.container
    return replace(service, container=replace(container, mounts=(*container.mounts, *staged)))


def run_below_reloader(service: RunningService, plan: ReloadPlan) -> RunningService:
    """Return the service whose application the reloader runs; its flags stay what they are."""
    container = service.container
    mounts = (
        *container.mounts,
        BindMount(source=plan.program, target=RELOADER),
        BindMount(source=plan.control, target=CONTROL, writable=True),
        VolumeMount(volume=f"{container.name}-reload", target=STATE),
    )
    inits, command = _split_init(plan.command)
    container = replace(
        container,
        mounts=mounts,
        ports=_with_debugger(container.ports) if plan.debug else container.ports,
        command=(*inits, plan.python, RELOADER, *_options(plan, container), "--", *command),
        options=(*container.options, f"--entrypoint={json.dumps([])}"),
    )
    return replace(service, container=container)


def _options(plan: ReloadPlan, container: ContainerSpec) -> tuple[str, ...]:
    watched = (word for folder in plan.watch for word in ("--watch", folder))
    debug = ("--debug", f"0.0.0.0:{DEBUG_PORT}") if plan.debug else ()
    return (
        "--control", posixpath.join(CONTROL, SOCKET),
        "--state", STATE,
        "--stop-seconds", str(container.running.stop_seconds),
        *watched,
        *(word for name in plan.settings.keep for word in ("--keep", name)),
        *(word for name in plan.settings.preload for word in ("--preload", name)),
        *(("--probe", plan.settings.probe) if plan.settings.probe else ()),
        *(("--mode", plan.settings.mode) if plan.settings.mode != "auto" else ()),
        *debug,
        *(("--wait",) if plan.wait else ()),
    )  # fmt: skip


def is_python_service(command: Sequence[str]) -> bool:
    """Return whether a command starts a Python program that serves: an interpreter, or a server by its usual name."""
    _, words = _split_init(tuple(command))
    name = posixpath.basename(words[0]) if words else ""
    return _PYTHON.fullmatch(name) is not None or name in _SERVERS


def _split_init(command: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a small init with its options from the command that it starts: it stays process 1."""
    if not command or posixpath.basename(command[0]) not in _INITS:
        return (), command
    end = command.index("--") + 1 if "--" in command else 1
    return command[:end], command[end:]


def _with_debugger(ports: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
    if any(port.number == DEBUG_PORT for port in ports):
        return ports
    return (*ports, PublishedPort(number=DEBUG_PORT, host=DEBUG_PORT))
