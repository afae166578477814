"""What the kernel says of containers' processes: read by a process of its own, as values."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import buildkit
from buildkit.audit.sighting import NetworkSight, RunningCode, Sighting
from buildkit.errors import ToolError
from buildkit.running.proc import (
    ProcessStatus,
    parse_connections,
    parse_default_routes,
    parse_listening,
    parse_mounts,
    parse_status,
)
from buildkit.tools.process import Command, find_tool, run

_RUNTIMES = ("crun", "runc", "/usr/sbin/runc", "/usr/local/sbin/runc", "/usr/local/bin/crun")
_PROGRAM = (
    "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1]);"
    "from buildkit.tools.process_reading import main; main()"
)
_STALL = 15.0  # seconds in which the kernel gives nothing
_Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerProcesses:
    """A container to read: its id, its first process, the program that started it, by name or path.

    ``layers`` are the folders of its root, the writable one first.
    """

    id: str
    pid: int
    runtime: str = ""
    layers: tuple[str, ...] = ()


def read_containers(containers: Sequence[ContainerProcesses], *, seconds: float) -> dict[str, Sighting]:
    """Return what is seen of each container that still runs, by id; reading lasts at most about ``seconds``.

    An ordinary user's are read in podman's user namespace. Raises MissingTool, and ToolError if the reader fails.
    """
    if not containers:
        return {}
    names = {*_RUNTIMES, *(one.runtime for one in containers)}
    request = {
        "seconds": seconds,
        "runtimes": sorted({found for name in names if (found := find_tool(name))}),
        "containers": [{"id": one.id, "pid": one.pid, "layers": one.layers} for one in containers],
    }
    inside = () if os.geteuid() == 0 else ("podman", "unshare")
    source = str(Path(buildkit.__file__).parents[1])
    answer = run(
        Command(
            argv=(*inside, sys.executable, "-I", "-c", _PROGRAM, source),
            stdin=json.dumps(request).encode(),
            what="reading the processes of containers",
            stall_seconds=_STALL,
        )
    )
    return dict(_parse(answer.stdout, {one.id for one in containers}))


def _parse(output: bytes, wanted: set[str]) -> Iterator[tuple[str, Sighting]]:
    left = set(wanted)
    for line in output.decode("ascii").splitlines():
        answer = json.loads(line)
        left.discard(answer["id"])
        if not answer["gone"]:
            yield answer["id"], parse_sighting(answer)
    if left:
        raise ToolError(f"reading the processes of containers: {len(left)} of {len(wanted)} are missing")


def parse_sighting(answer: _Json) -> Sighting:
    """Return the value of an answer of `process_reading`; what cannot be parsed counts as unread."""
    unread = list(map(str, answer["unread"]))
    statuses, names = [], {}
    for process in answer["processes"]:
        try:
            status = parse_status(process["status"])
        except (ValueError, KeyError):
            unread.append(f"process {process['pid']}: its status cannot be parsed")
            continue
        statuses.append(status)
        names[process["pid"]] = status.name
    networks = []
    for tables in answer["net"]:
        try:
            networks.append(_parse_network(tables))
        except (ValueError, IndexError):
            unread.append("the tables of a network cannot be parsed")
    environ = (line for process in answer["processes"] for line in process.get("environ", "").split("\0"))
    return Sighting(
        unread=tuple(unread),
        processes=tuple[ProcessStatus, ...](statuses),
        environment=tuple(filter(None, environ)),
        mounts=parse_mounts(answer["mountinfo"]),
        networks=tuple(networks),
        shared=tuple(answer["shared"]),
        code=tuple(_parse_code(one, names) for one in answer["code"]),
    )


def _parse_network(tables: _Json) -> NetworkSight:
    both = [(tables[name], name.removesuffix("6")) for name in ("tcp", "tcp6", "udp", "udp6")]
    return NetworkSight(
        listening=tuple(socket for text, protocol in both for socket in parse_listening(text, protocol)),
        connections=tuple(one for text, protocol in both for one in parse_connections(text, protocol)),
        ways_out=parse_default_routes(tables["route"], tables["ipv6_route"]),
    )


def _parse_code(one: _Json, names: Mapping[int, str]) -> RunningCode:
    who = dict.fromkeys(names[pid] for pid in one["pids"] if pid in names)
    return RunningCode(
        how=one["how"],
        path=one["path"],
        place=one["place"],
        mount=one["mount"],
        kind=one["kind"],
        writable=one["writable"],
        names=tuple(sorted(who)),
    )
