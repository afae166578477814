"""Read the files of control groups and of processes, as the kernel has them now. What ends meanwhile is no error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from buildkit.monitor.hierarchy import (
    CgroupFiles,
    find_container_id,
    find_files,
    find_parents,
    parse_cgroup_mounts,
    parse_groups,
)
from buildkit.monitor.usage import CgroupLimits, CgroupUsage, parse_limits, parse_usage
from buildkit.tools.held_files import HeldFiles, read_once

_SERVICE = ".service"  # Quadlet's groups are below that of their unit


class CgroupReader:
    """Reads what containers use; ``proc`` is the folder of processes. At most ``held`` files stay open."""

    def __init__(self, proc: Path = Path("/proc"), held: int | None = None) -> None:
        self._proc = str(proc)
        self._files = HeldFiles(held)
        self._mounts = parse_cgroup_mounts(read_once(f"{proc}/self/mountinfo"))

    def find_files(self, pid: int, container: str) -> CgroupFiles:
        """Return the files of a container whose first process is ``pid``; none if that has ended."""
        groups = parse_groups(read_once(f"{self._proc}/{pid}/cgroup"))
        return find_files(self._mounts, groups, container)

    def find_container(self, pid: int) -> str:
        """Return the id of the container that a process is in; empty if it is in none, or has ended."""
        return find_container_id(read_once(f"{self._proc}/{pid}/cgroup"))

    def read_usage(self, files: CgroupFiles, pid: int, *, network: bool = True) -> CgroupUsage | None:
        """Return what a container uses, None if it has ended; with ``network``, that of its first process, too."""
        texts = {_name(path): text for path in files.used if (text := self._files.read(path))}
        folders = files.folders or (f"{self._proc}/{pid}",)
        if len(texts) < len(files.used or folders) and not all(map(os.path.isdir, folders)):
            return None
        return parse_usage(texts, read_once(f"{self._proc}/{pid}/net/dev") if network else "")

    def keep(self, known: Iterable[CgroupFiles]) -> None:
        """Forget all other containers."""
        self._files.keep(path for files in known for path in files.used)

    def read_limits(self, files: CgroupFiles) -> CgroupLimits:
        """Return what a container may use."""
        return parse_limits({_name(path): read_once(path) for path in files.limits})

    def list_groups(self, known: Iterable[CgroupFiles]) -> frozenset[str]:
        """Return the names of containers' groups beside those that are known, and where podman makes new ones.

        A container that appears or ends changes them. Groups of Quadlet's services are looked for below their units.
        """
        folders = {files.folders[0].rpartition("/")[0] for files in known if files.folders}
        folders.update(find_parents(self._mounts, os.geteuid()))
        return frozenset(name for folder in folders for name in _list_groups(folder))


def _name(path: str) -> str:
    return path.rpartition("/")[2]  # pathlib costs more than the read


def _list_groups(folder: str) -> list[str]:
    found = []
    for name in _list(folder):
        if "libpod-" in name:
            found.append(name)
        elif name.endswith(_SERVICE):
            found += [below for below in _list(f"{folder}/{name}") if below.startswith("libpod-")]
    return found


def _list(folder: str) -> list[str]:
    """Return the names in a folder; none if it is not there: which folders a host has depends on who runs what."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []
