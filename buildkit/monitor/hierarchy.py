"""Where the files of a container's control groups are, in cgroups v1, v2 and hybrid. Pure.

cgroups(7): /proc/PID/mountinfo says where hierarchies are mounted, /proc/PID/cgroup in which group of each a process
is. A hybrid host has its controllers in v1, and pressure (PSI) in a v2 hierarchy beside them. Controllers are looked up
one by one, so that any mixture is read right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

V2 = ""  # the controller's name in /proc/PID/cgroup
_ID = re.compile(r"[0-9a-f]{64}")
_SUPERVISOR = "conmon"  # podman's monitor of a container has a group with its id, and is no process of it
_PRESSURE = ("cpu.pressure", "memory.pressure", "io.pressure")
_USED = {  # by controller of v1
    "cpuacct": ("cpuacct.usage",),
    "cpu": ("cpu.stat",),
    "memory": ("memory.usage_in_bytes", "memory.stat", "memory.oom_control"),
    "pids": ("pids.current",),
    "blkio": ("blkio.throttle.io_service_bytes_recursive",),
}
_USED_V2 = {
    "cpu": ("cpu.stat",),
    "memory": ("memory.current", "memory.stat", "memory.events"),
    "pids": ("pids.current",),
    "blkio": ("io.stat",),
}
_LIMITS = {
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "memory": ("memory.limit_in_bytes",),
    "pids": ("pids.max",),
}
_LIMITS_V2 = {"cpu": ("cpu.max",), "memory": ("memory.max",), "pids": ("pids.max",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupMount:
    """A mounted hierarchy: its folder, and the group that this folder is (``/`` unless a container sees a part)."""

    controllers: tuple[str, ...]
    folder: str
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupFiles:
    """Paths of the files that say what a container uses, and what it may; ``folders`` are those of its groups."""

    used: tuple[str, ...]
    limits: tuple[str, ...]
    folders: tuple[str, ...]


def parse_cgroup_mounts(text: str) -> tuple[CgroupMount, ...]:
    """Parse ``/proc/PID/mountinfo``; that of v2 has the controller `V2`."""
    return tuple(_mounts(text))


def _mounts(text: str) -> Iterator[CgroupMount]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        names = (V2,) if kind[0] == "cgroup2" else tuple(kind[2].split(","))
        yield CgroupMount(controllers=names, folder=_unescape(fields[4]), root=_unescape(fields[3]))


def parse_groups(text: str) -> dict[str, str]:
    """Parse ``/proc/PID/cgroup``: the group of a process by controller, `V2` for that of v2."""
    rows = (line.split(":", 2) for line in text.splitlines())
    return {name: row[2] for row in rows if len(row) == 3 for name in row[1].split(",")}


def find_container_id(text: str) -> str:
    """Return the id of the container that a process is in, given its ``/proc/PID/cgroup``; empty if it is in none."""
    for group in parse_groups(text).values():
        for part in reversed(group.split("/")):
            if (found := _ID.search(part)) and _SUPERVISOR not in part:
                return found[0]
    return ""


def group_id(name: str) -> str:
    """Return the id of the container that a group is of, by the group's name; empty without one."""
    found = _ID.search(name)
    return found[0] if found else ""


def find_files(mounts: tuple[CgroupMount, ...], groups: dict[str, str], container: str) -> CgroupFiles:
    """Return the files of a container's groups, given those of its first process.

    A group without the container's id is not its own (podman makes none with ``--cgroups=disabled``, and none for an
    ordinary user with v1): its figures would be those of others, so none of its files are named.
    """
    folders = dict(_folders(mounts, groups, container))
    used, limits = [], []
    for controller in _USED:
        if controller in folders:
            used += [f"{folders[controller]}/{name}" for name in _USED[controller]]
            limits += [f"{folders[controller]}/{name}" for name in _LIMITS.get(controller, ())]
        elif V2 in folders and controller not in groups:
            used += [f"{folders[V2]}/{name}" for name in _USED_V2.get(controller, ())]
            limits += [f"{folders[V2]}/{name}" for name in _LIMITS_V2.get(controller, ())]
    if V2 in folders:
        used += [f"{folders[V2]}/{name}" for name in _PRESSURE]
    wanted = tuple(dict.fromkeys(folders[name] for name in (V2, *_USED) if name in folders))
    return CgroupFiles(used=tuple(used), limits=tuple(limits), folders=wanted)


def _folders(mounts: tuple[CgroupMount, ...], groups: dict[str, str], container: str) -> Iterator[tuple[str, str]]:
    for mount in mounts:
        for controller in mount.controllers:
            group = _own_group(groups.get(controller, ""), container)
            root = "" if mount.root == "/" else mount.root
            if group.startswith(f"{root}/"):
                yield controller, mount.folder + group.removeprefix(root)


def _own_group(group: str, container: str) -> str:
    """Return the group of the whole container: a service manager in it has groups below."""
    before, found, after = group.partition(container)
    return f"{before}{found}{after.partition('/')[0]}" if container and found else ""


def find_parents(mounts: tuple[CgroupMount, ...], uid: int) -> tuple[str, ...]:
    """Return the folders in which groups of new containers appear: of root, or of a user's service manager."""
    user = f"user.slice/user-{uid}.slice/user@{uid}.service"
    places = (f"{user}/user.slice", f"{user}/app.slice") if uid else ("libpod_parent", "machine.slice", "system.slice")
    wanted = next((one for one in mounts if {"pids", "memory"} & set(one.controllers)), None)
    wanted = wanted or next((one for one in mounts if V2 in one.controllers), None)
    return tuple(f"{wanted.folder}/{place}" for place in places) if wanted else ()


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)
