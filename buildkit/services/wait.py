"""Wait until a service is what others wait for; health checks are run here, as podman leaves them to systemd."""

from __future__ import annotations

import shlex
import time
from typing import Any

from buildkit.errors import BuildError
from buildkit.running.environment import RunningService
from buildkit.running.proc import parse_listening
from buildkit.tools import podman

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds
_GLANCES, _GLANCE = 3.0, 0.02  # seconds for which the kernel is asked in place of the service, and between
_UNHEALTHY, _UNKNOWN = 1, 125  # of podman healthcheck run
_SHOWN = 20  # lines of a log


def wait_healthy(service: RunningService, seconds: float) -> None:
    """Wait until the service's health check passes; without one, until others reach its first port, if it has any.

    Raises BuildError with the last lines of its log if it ends or ``seconds`` are over.
    """
    name, end, pause = service.container.name, time.monotonic() + seconds, _FIRST_PAUSE
    health = service.container.health
    lack = _await_listening(service, end if health is None else min(end, time.monotonic() + _GLANCES))
    while True:
        code = _UNKNOWN if health is None else podman.check_health(name).code
        if code == 0:
            return
        late = time.monotonic() > end
        if code != _UNHEALTHY or late:
            state = podman.inspect_container(name)["State"]
            if state["Status"] not in ("running", "created", "initialized"):
                raise _failure(service, f"ended with exit code {state['ExitCode']} before it was healthy")
            if health is None and lack:
                raise _failure(service, f"cannot be reached after {seconds:g} s: {lack}")
            if health is None:
                return
            if late:
                check = shlex.join(health.test)
                raise _failure(service, f"is not healthy after {seconds:g} s: `{check}` fails{_last_check(state)}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _await_listening(service: RunningService, end: float) -> str:
    """Wait until the service listens at its first port, for each health check takes a third of a second of a processor.

    Without a check, others have to reach it. Return what is wrong at ``end``; nothing where there is no telling.
    """
    port = next((port.number for port in service.container.ports if port.protocol == "tcp"), None)
    if port is None:
        return ""
    folder = f"/proc/{podman.inspect_container(service.container.name)['State'].get('Pid', 0)}/net"
    while True:
        texts = [podman.read_proc(f"{folder}/{kind}", rootless=False) for kind in ("tcp", "tcp6")]
        found = [one for text in texts for one in parse_listening(text, "tcp") if one.port == port]
        is_checked = service.container.health is not None  # its check runs in the container
        if not any(texts) or any(is_checked or not one.is_loopback for one in found):
            return ""
        if time.monotonic() > end:
            return f"it listens at {found[0].address}, not at 0.0.0.0" if found else f"it does not listen at {port}"
        time.sleep(_GLANCE)


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
