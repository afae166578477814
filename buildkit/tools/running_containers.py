"""The running containers of this user, as podman describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from buildkit.errors import ToolError
from buildkit.monitor.containers import WatchedContainer, parse_containers
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.process import Command, run

_ID = re.compile(r"[0-9a-f]{64}")
_ANY = tuple(range(256))
_INSPECT = "asking podman about containers"
_STALL = 30.0  # seconds after which a podman that hangs is ended
_PATIENCE = 60.0  # seconds until podman is asked again in any case


def find_running() -> tuple[WatchedContainer, ...]:
    """Return the running containers. Raises MissingTool or ToolError."""
    return parse_containers(describe_running())


def describe_running() -> list[dict[str, Any]]:
    """Return podman's descriptions of the containers that run. Raises MissingTool or ToolError.

    It costs a quarter of a second: podman is asked twice. A container that runs and is not described is an error: its
    absence would mean that all is well.
    """
    ids = _list_ids()
    if not ids:
        return []
    done = run(  # one may have ended
        Command(argv=("podman", "container", "inspect", *ids), accept=_ANY, what=_INSPECT, stall_seconds=_STALL)
    )
    described = _parse_descriptions(done.stdout)
    missing = set(ids) - {one["Id"] for one in described}
    if missing and (left := missing.intersection(_list_ids())):
        raise ToolError(
            f"podman does not describe {len(left)} of {len(ids)} containers",
            output=done.stderr.decode("utf-8", "replace"),
        )
    return [one for one in described if (one.get("State") or {}).get("Pid")]


def _list_ids() -> list[str]:
    command = Command(argv=("podman", "ps", "--quiet", "--no-trunc"), what="listing containers", stall_seconds=_STALL)
    return run(command).text.split()


def _parse_descriptions(output: bytes) -> list[dict[str, Any]]:
    try:
        described: list[dict[str, Any]] = json.loads(output or b"[]")
    except ValueError:
        return []  # it ended in the middle: all are missing
    return described


class RunningDescriptions:
    """podman's descriptions, which are asked for anew only when containers may have come or gone.

    Their control groups tell. Where a container has none (an ordinary user's with cgroups v1), podman is asked always.
    """

    def __init__(self, reader: CgroupReader, clock: Callable[[], float]) -> None:
        self._reader, self._clock = reader, clock
        self._known: list[dict[str, Any]] = []
        self._groups: frozenset[str] = frozenset()
        self._strangers: set[str] = set()
        self._asked_at: float | None = None

    def find(self) -> list[dict[str, Any]]:
        """Return the descriptions of the containers that run. Raises MissingTool or ToolError."""
        now = self._clock()
        groups = self._list_groups()
        is_old = self._asked_at is None or abs(now - self._asked_at) >= _PATIENCE
        if is_old or groups is None or groups != self._groups:
            self._known = describe_running()
            self._asked_at, self._groups = now, self._list_groups() or frozenset()
            strangers = {ident for name in self._groups for ident in _ID.findall(name)}
            strangers -= {one["Id"] for one in self._known}
            if strangers != self._strangers:
                self.forget()  # one may have come while podman answered; another storage's will be there again
            self._strangers = strangers
        return self._known

    def forget(self) -> None:
        """Ask podman in the next look: a container has ended, and may have begun anew."""
        self._asked_at = None

    def _list_groups(self) -> frozenset[str] | None:
        """Return the names of containers' groups, None if they do not tell of all."""
        files = [self._reader.find_files(int(one["State"]["Pid"]), one["Id"]) for one in self._known]
        if not files or not all(one.folders for one in files):
            return None
        return self._reader.list_groups(files)
