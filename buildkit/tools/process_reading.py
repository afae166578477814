"""Reads what the kernel says of the processes of containers: the program that `process_reader` starts.

It has its own process, because an ordinary user's containers are read in podman's user namespace, and so that reading
has an end even where the kernel has none. Standard input is ``{"seconds", "runtimes", "containers": [{"id", "pid",
"layers"}]}``; standard output is a line of JSON for each container.

Processes come, go, and leave their numbers to others. So what was read of one counts only if start time and program are
the same before and after.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildkit.running.proc import MountPoint, parse_mounts
from buildkit.tools.code_places import find_mount, find_place, find_script, mapped_code, split_deleted
from buildkit.tools.proc_files import (
    GONE,
    closed_after,
    find_group_containers,
    has_ended,
    identify,
    open_living,
    open_process,
    read_file,
    read_link,
    read_text,
    start_time,
)

NAMESPACES = ("pid", "net", "ipc", "uts", "mnt")
TABLES = ("tcp", "tcp6", "udp", "udp6", "route", "ipv6_route")
_TRIES = 4
_SETTLE = 0.2  # seconds until what could not be read is tried again: it may just have been starting a program
_MOST_PROCESSES = 5000
_MOST_CODE = 2000  # different files of a container
_MOST_PIDS = 10  # named for each of them
_Json = dict[str, Any]
_Member = tuple[int, int]  # number and start time


class _Unsettled(Exception):
    """A process became another program whenever it was read."""


def main() -> None:
    """Read the request, and answer."""
    request = json.load(sys.stdin)
    reader = ProcessReading(request["runtimes"], end=time.monotonic() + request["seconds"])
    for answer in reader.read(request["containers"]):
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


class ProcessReading:
    """Reads containers until ``end`` of the monotonic clock; what it has no time for is said to be unread."""

    def __init__(self, runtimes: Iterable[str], *, end: float, proc: Path = Path("/proc")) -> None:
        self._runtimes = tuple(runtimes)
        self._end = end
        self._proc = proc
        self._digests: dict[tuple[int, ...], bytes] = {}
        with closed_after(open_process(proc, os.getpid())) as process:
            self.own = {name: read_link(process, f"ns/{name}") for name in NAMESPACES}

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._end

    def open(self, pid: int) -> int:
        """Return a descriptor of a process' folder. Raises OSError."""
        return open_process(self._proc, pid)

    def read(self, containers: Sequence[_Json]) -> Iterator[_Json]:
        """Yield what is known of each container, in their order."""
        reads = {one["id"]: _ContainerReading(self, one) for one in containers}
        members = self._find_members(reads)
        for ident, reading in reads.items():
            yield reading.read(sorted(members[ident]))

    def _find_members(self, reads: Mapping[str, _ContainerReading]) -> dict[str, list[_Member]]:
        """Return the processes of each container: by its control group, else by its namespaces."""
        spaces: dict[str, list[str]] = {}
        for ident, reading in reads.items():
            for name in ("mnt", "pid"):
                space = reading.namespaces.get(name, "")
                if space and space != self.own[name]:
                    spaces.setdefault(space, []).append(ident)
        alone = {space: idents[0] for space, idents in spaces.items() if len(idents) == 1}
        members: dict[str, list[_Member]] = {ident: [] for ident in reads}
        for name in os.listdir(self._proc):  # noqa: PTH208 - names alone
            if name.isdecimal():
                with suppress(OSError):  # it has ended
                    self._sort(int(name), members, alone)
        return members

    def _sort(self, pid: int, members: dict[str, list[_Member]], alone: Mapping[str, str]) -> None:
        with closed_after(self.open(pid)) as process:
            named = find_group_containers(read_file(process, "cgroup"))
            ident = next((one for one in named if one in members), "")
            if not ident:
                with suppress(PermissionError):  # another user's
                    spaces = (read_link(process, f"ns/{name}") for name in ("mnt", "pid"))
                    ident = next((alone[space] for space in spaces if space in alone), "")
            if ident:
                members[ident].append((pid, start_time(process)))

    def is_runtime(self, process: int) -> bool:
        """Return whether a process is the program that starts containers, about to become another. Raises OSError."""
        status = os.stat("exe", dir_fd=process)
        for path in self._runtimes:
            with suppress(FileNotFoundError):
                if os.stat(path).st_size == status.st_size:  # noqa: PTH116 - as above
                    return self._digest(path) == self._digest("exe", process)
        return False

    def _digest(self, path: str, process: int | None = None) -> bytes:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if key not in self._digests:
                self._digests[key] = hashlib.file_digest(file, "sha256").digest()
            return self._digests[key]


class _ContainerReading:
    """The reading of one container, with the ``namespaces`` of its first process."""

    def __init__(self, reading: ProcessReading, container: _Json) -> None:
        self._reading, self._container = reading, container
        self.namespaces: dict[str, str] = {}
        self._groups = self._mountinfo = ""
        self._unread: list[str] = []
        self._is_gone = self._is_starting = False
        self._processes: list[_Json] = []
        self._code: dict[tuple[str, ...], _Json] = {}
        self._mounts: dict[str, tuple[MountPoint, ...]] = {}
        self._nets: dict[str, dict[str, str]] = {}
        self._places: dict[tuple[str, str, bool], _Json] = {}
        try:
            self._read_first()
        except GONE:
            self._is_gone = True
        except OSError as error:
            self._unread.append(f"its first process: {error.strerror}")

    def _read_first(self) -> None:
        """Read what is the container's, not a process's. Raises OSError."""
        with closed_after(self._reading.open(self._container["pid"])) as process:
            self._groups = read_text(process, "cgroup")
            self._mountinfo = read_text(process, "mountinfo")
            if self._is_it():
                self.namespaces = {name: read_link(process, f"ns/{name}") for name in NAMESPACES}
            else:
                self._is_gone = True  # its number is another's by now

    def _is_it(self) -> bool:
        """Return whether the first process is this container's, by its control group or its root.

        Without either (an ordinary user's with fuse-overlayfs and cgroups v1) podman is believed.
        """
        if self._container["id"] in self._groups:
            return True
        root = next((line for line in self._mountinfo.split("\n") if line.split(" ")[4:5] == ["/"]), "")
        if "upperdir=" in root:
            return any(f"upperdir={layer}" in root for layer in self._container["layers"][:1])
        return not any(find_group_containers(self._groups.encode("utf-8", "surrogateescape")))

    def read(self, members: Sequence[_Member]) -> _Json:
        """Return all that is known of it; ``gone`` if it has ended."""
        if not self._is_gone:
            self._read_members(members)
            if not (self._processes or self._unread or self._is_starting):
                self._is_gone = not self._still_runs()
        own = self._reading.own
        return {
            "id": self._container["id"],
            "gone": self._is_gone,
            "unread": self._unread,
            "mountinfo": self._mountinfo,
            "net": list(self._nets.values()),
            "shared": [name for name, space in self.namespaces.items() if space == own[name]],
            "processes": self._processes,
            "code": list(self._code.values()),
        }

    def _still_runs(self) -> bool:
        """Return whether the container goes on though none of its processes was read: then that is missing."""
        try:
            with closed_after(self._reading.open(self._container["pid"])) as process:
                if has_ended(process):
                    return False
        except OSError:
            return False
        self._unread.append("its processes, which were not found")
        return True

    def _read_members(self, members: Sequence[_Member]) -> None:
        if len(members) > _MOST_PROCESSES:
            self._unread.append(f"{len(members) - _MOST_PROCESSES} of its {len(members)} processes")
        again = []
        for number, member in enumerate(members[:_MOST_PROCESSES]):
            if self._reading.is_late:
                self._unread.append(f"{len(members) - number} of its {len(members)} processes, for lack of time")
                return
            if self._try(*member):
                again.append(member)
        if again and not self._reading.is_late:
            time.sleep(_SETTLE)
        self._unread += [f"process {member[0]}: {why}" for member in again if (why := self._try(*member))]

    def _try(self, pid: int, started: int) -> str:
        """Read a process; return why it could not be read. One that has ended needs not be."""
        try:
            with closed_after(self._reading.open(pid)) as process:
                if start_time(process) == started:  # else another has its number by now, and its turn in the next look
                    if not has_ended(process):
                        return self._try_process(process, pid, started)
                    with closed_after(open_living(process)) as thread:
                        return self._try_process(thread, pid, started)
        except GONE:
            return ""
        except OSError as error:
            return f"{error.strerror}"
        return ""

    def _try_process(self, process: int, pid: int, started: int) -> str:
        try:
            self._read_process(process, pid, started)
        except GONE:
            return ""
        except OSError as error:
            return "" if has_ended(process) else f"{error.filename or 'a file'}: {error.strerror}"
        except _Unsettled:
            return "it became another program each time that it was read"
        return ""

    def _read_process(self, process: int, pid: int, started: int) -> None:
        for _ in range(_TRIES):
            before = identify(process)
            if is_runtime := self._reading.is_runtime(process):
                facts, code, nets = {}, [], {}
            else:
                facts = {"pid": pid, "started": started, "status": read_text(process, "status")}
                if pid == self._container["pid"]:
                    facts["environ"] = read_text(process, "environ")
                code = list(self._find_code(process))
                nets = self._read_tables(process)
            if identify(process) == before:
                self._is_starting = self._is_starting or is_runtime
                if not is_runtime:
                    self._processes.append(facts)
                    self._nets |= nets
                    for found in code:
                        self._add_code(found, pid)
                return
        raise _Unsettled

    def _add_code(self, found: _Json, pid: int) -> None:
        key = (found["how"], found["path"], found["place"])
        if key not in self._code:
            if len(self._code) == _MOST_CODE:
                self._unread.append(f"files with code beyond the first {_MOST_CODE}")
            if len(self._code) > _MOST_CODE:
                return
            self._code[key] = {**found, "pids": []}
        if len(self._code[key]["pids"]) < _MOST_PIDS:
            self._code[key]["pids"].append(pid)

    def _read_tables(self, process: int) -> dict[str, dict[str, str]]:
        """Return the tables of a network that was not read yet; those of the host are not the container's."""
        space = read_link(process, "ns/net")
        if space in self._nets or space == self._reading.own["net"]:
            return {}
        tables = dict.fromkeys(TABLES, "")
        for name in TABLES:
            try:
                tables[name] = read_text(process, f"net/{name}")
            except FileNotFoundError:
                if "6" not in name:  # a kernel may be without IPv6
                    raise
        return {space: tables}

    def _find_code(self, process: int) -> Iterator[_Json]:
        """Yield the files whose code a process runs: its program, what it has mapped as code, its script."""
        space = read_link(process, "ns/mnt")
        if space not in self._mounts:
            self._mounts[space] = parse_mounts(read_text(process, "mountinfo"))
        program, deleted = read_link(process, "exe"), False
        if os.stat("exe", dir_fd=process).st_nlink == 0:
            program, deleted = split_deleted(program)
        yield {"how": "program", **self._find_place(space, program, deleted)}
        for path, gone in dict.fromkeys(mapped_code(read_file(process, "maps"))):
            if path != program:
                yield {"how": "library", **self._find_place(space, path, gone)}
        if script := find_script(program, read_file(process, "cmdline"), read_link(process, "cwd")):
            yield {"how": "script", **self._find_place(space, script, False)}

    def _find_place(self, space: str, path: str, deleted: bool) -> _Json:
        """Return where a file of a mount namespace is; each is looked up once."""
        key = (space, path, deleted)
        if key not in self._places:
            mount = find_mount(path, self._mounts[space])
            self._places[key] = {
                "path": path,
                "place": find_place(path, mount, self._container["layers"], deleted=deleted),
                "mount": mount.target if mount else "",
                "kind": mount.kind if mount else "",
                "writable": mount is None or "rw" in mount.options,
            }
        return self._places[key]


if __name__ == "__main__":
    main()
