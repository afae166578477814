"""Wait until a service is what others wait for; health checks are run here, as podman leaves them to systemd."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any

from buildkit.errors import BuildError
from buildkit.running.environment import RunningService
from buildkit.running.proc import ListeningSocket, parse_listening
from buildkit.tools import podman

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds
_GLANCES, _GLANCE = 3.0, 0.02  # seconds for which the kernel is asked in place of the service, and between
_UNHEALTHY, _UNKNOWN = 1, 125  # of podman healthcheck run
_SHOWN = 20  # lines of a log


def wait_healthy(service: RunningService, seconds: float) -> str:
    """Wait until the service's health check passes; without one, until others reach its first port, if it has any.

    Return why others cannot reach a port of a service whose check passes; empty if they can. Raises BuildError with the
    last lines of its log if it ends or ``seconds`` are over.
    """
    name, end, pause = service.container.name, time.monotonic() + seconds, _FIRST_PAUSE
    health, tables = service.container.health, _find_tables(service)
    lack = _await_listening(service, tables, end if health is None else min(end, time.monotonic() + _GLANCES))
    while True:
        code = _UNKNOWN if health is None else podman.check_health(name).code
        if code == 0:
            return _find_hidden(service, tables)
        late = time.monotonic() > end
        if code != _UNHEALTHY or late:
            state = podman.inspect_container(name)["State"]
            if state["Status"] not in ("running", "created", "initialized"):
                raise _failure(service, f"ended with exit code {state['ExitCode']} before it was healthy")
            if health is None and lack:
                raise _failure(service, f"cannot be reached after {seconds:g} s: {lack}")
            if health is None:
                return ""
            if late:
                check = shlex.join(health.test)
                raise _failure(service, f"is not healthy after {seconds:g} s: `{check}` fails{_last_check(state)}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _find_tables(service: RunningService) -> tuple[str, ...]:
    """Return the kernel's tables of the sockets in a container; none for a service that publishes no port of TCP."""
    if not _published(service):
        return ()
    pid = podman.inspect_container(service.container.name)["State"].get("Pid", 0)
    return tuple(f"/proc/{pid}/net/{kind}" for kind in ("tcp", "tcp6"))


def _published(service: RunningService) -> list[int]:
    return [port.number for port in service.container.ports if port.protocol == "tcp"]


def _read_listening(tables: Sequence[str]) -> tuple[ListeningSocket, ...] | None:
    """Return the sockets that listen; None where there is no telling."""
    texts = [podman.read_proc(table, rootless=False) for table in tables]
    return tuple(one for text in texts for one in parse_listening(text, "tcp")) if any(texts) else None


def _await_listening(service: RunningService, tables: Sequence[str], end: float) -> str:
    """Wait until the service listens at its first port, for each health check takes a third of a second of a processor.

    Without a check, others have to reach it. Return what is wrong at ``end``; nothing where there is no telling.
    """
    is_checked = service.container.health is not None  # its check runs in the container
    while (sockets := _read_listening(tables)) is not None:
        port = _published(service)[0]
        found = [one for one in sockets if one.port == port]
        if any(is_checked or not one.is_loopback for one in found):
            return ""
        if time.monotonic() > end:
            return f"it listens at {found[0].address}, not at 0.0.0.0" if found else f"it does not listen at {port}"
        time.sleep(_GLANCE)
    return ""


def _find_hidden(service: RunningService, tables: Sequence[str]) -> str:
    """Return what is wrong with a port of a healthy service that only its own container reaches.

    It has a moment, for some programs listen at loopback while they set themselves up. Where nothing listens yet is no
    mistake: a debugger may be asked for later.
    """
    end = time.monotonic() + _GLANCES
    while True:
        by_port: dict[int, list[ListeningSocket]] = {}
        for one in _read_listening(tables) or ():
            by_port.setdefault(one.port, []).append(one)
        found = [by_port[port] for port in _published(service) if port in by_port]
        hidden = next((sockets[0] for sockets in found if all(one.is_loopback for one in sockets)), None)
        if hidden is None:
            return ""
        if time.monotonic() > end:
            where = f"port {hidden.port}, though it is healthy: it listens at {hidden.address} in its container"
            return f"{service.name}: others cannot reach {where}; let it listen at 0.0.0.0"
        time.sleep(_FIRST_PAUSE)


def wait_completed(service: RunningService, seconds: float) -> None:
    """Wait until the service has ended with exit code 0. Raises BuildError as `wait_healthy` does."""
    name, end, pause = service.container.name, time.monotonic() + seconds, _FIRST_PAUSE
    while (state := podman.inspect_container(name)["State"])["Status"] not in ("exited", "stopped"):
        if time.monotonic() > end:
            raise _failure(service, f"has not ended after {seconds:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    if state["ExitCode"] != 0:
        raise _failure(service, f"failed with exit code {state['ExitCode']}")


def _last_check(state: dict[str, Any]) -> str:
    """Return the last line that the last health check printed, for a message."""
    log = (state.get("Health") or state.get("Healthcheck") or {}).get("Log") or [{}]
    lines = str(log[-1].get("Output") or "").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def _failure(service: RunningService, what: str) -> BuildError:
    log = podman.read_log(service.container.name).splitlines()[-_SHOWN:]
    hint = "the lines above are the end of its log" if log else "it wrote no log"
    return BuildError(f"{service.name} {what}", hint=hint, output="\n".join(log))
