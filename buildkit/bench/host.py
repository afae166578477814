"""The machine a race ran on, and the versions of the tools used."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from buildkit.tools.podman import probe_host
from buildkit.tools.process import Command, find_tool, run

_TOOLS = (("skopeo", "--version"), ("podman", "--version"), ("docker-registry", "--version"), ("runc", "--version"))


def describe_machine(folder: Path) -> dict[str, Any]:
    """Return processor, memory and disk bytes, kernel, and file system of ``folder``; never the host name."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": shutil.disk_usage(folder).total,
        "file system": _file_system(folder),
        "kernel": platform.release().partition("-")[0],
        "system": _release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[2], 2),
    }


def describe_podman_host() -> str:
    """Return system, podman and its user in words: ``Debian 13, podman 5.4.2, root``."""
    release = _release()
    system = " ".join(filter(None, (release.get("ID", "").title(), release.get("VERSION_ID", ""))))
    host = probe_host()
    return f"{system}, podman {host.version}, {'user' if host.rootless else 'root'}"


def find_tool_versions() -> dict[str, str]:
    """Return the versions of tools that all participants share."""
    versions = {}
    for name, option in _TOOLS:
        if find_tool(name):
            text = run(Command(argv=(name, option), accept=tuple(range(256)))).text.splitlines()
            words = [word.strip(",") for word in (text[0].split() if text else []) if any(c.isdigit() for c in word)]
            versions[name] = words[-1] if words else "unknown"
    return versions


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _file_system(folder: Path) -> str:
    mounts = [line.split(" ") for line in _lines("/proc/self/mounts")]
    above = [(len(mount[1]), mount[2]) for mount in mounts if folder.is_relative_to(mount[1])]
    return max(above)[1] if above else "unknown"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
