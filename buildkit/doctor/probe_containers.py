"""Gather facts about containers: cgroups, runtimes, limits, storage, podman's network. Changes nothing."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

from buildkit.doctor.facts import ContainerHost, ContainerStorage
from buildkit.errors import BuildError
from buildkit.tools.process import Command, find_tool, run

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_LIBRARIES = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman", "/usr/local/libexec/podman")
_CNI = ("/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin", "/usr/local/lib/cni", "/usr/local/libexec/cni")


def find_program(name: str) -> str:
    """Return the program's path, also from folders of root's PATH, as buildah and podman do; empty if it is missing."""
    found = find_tool(name)
    if found is not None:
        return found
    return next((path for folder in _SBIN if os.access(path := f"{folder}/{name}", os.X_OK)), "")


def probe_containers() -> ContainerHost:
    """Return what determines how podman runs containers here."""
    _, nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, nproc = resource.getrlimit(resource.RLIMIT_NPROC)
    backend, lacks = _network_backend(), {"cni": _cni_lacks(), "netavark": _netavark_lacks()}
    return ContainerHost(
        cgroups=read_cgroups(Path("/sys/fs/cgroup")),
        runtimes=tuple(name for name in ("crun", "runc") if find_program(name)),
        rootful=os.geteuid() == 0,
        nofile=nofile,
        nproc=limit_processes(nproc, Path("/proc/sys/kernel/pid_max")),
        may_raise=_may_raise(nofile),
        backend=backend,
        has_cni=not lacks["cni"],
        has_netavark=not lacks["netavark"],
        network_lacks=lacks.get(backend, ()),
        has_tun=os.access("/dev/net/tun", os.R_OK | os.W_OK),
        user_networks=tuple(name for name in ("pasta", "slirp4netns") if find_program(name)),
    )


def probe_storage() -> ContainerStorage:
    """Return container storage as ``buildah info`` reports it."""
    if find_tool("buildah") is None:
        return ContainerStorage(problem="buildah is not installed")
    try:
        info = json.loads(run(Command(argv=("buildah", "info"), what="asking buildah about its storage")).text)
    except BuildError as error:
        first, _, _ = error.output.partition("\n")
        return ContainerStorage(problem=first or error.message)
    except ValueError as error:
        return ContainerStorage(problem=f"buildah info: {error}")
    return parse_storage(info)


def parse_storage(info: dict[str, Any]) -> ContainerStorage:
    """Parse the JSON of ``buildah info``, 1.28 to 1.44."""
    store = info.get("store") or {}
    status = store.get("GraphStatus") or {}
    native = status.get("Native Overlay Diff")
    options = store.get("GraphOptions") or ()
    program = next((str(option).partition("=")[2] for option in options if "mount_program" in str(option)), "")
    return ContainerStorage(
        driver=str(store.get("GraphDriverName") or ""),
        native_diff=None if native is None else str(native).lower() == "true",
        mount_program=program,
        graph_root=str(store.get("GraphRoot") or ""),
    )


def limit_processes(hard: int, pid_max: Path) -> int:
    """Return the highest RLIMIT_NPROC of a container: podman lowers its default to the kernel's ``pid_max``."""
    try:
        most = int(pid_max.read_text("ascii"))
    except (OSError, ValueError):
        return hard  # RLIM_INFINITY is -1, as in ContainerHost
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def read_cgroups(folder: Path) -> str:
    """Return ``v2`` (unified), ``hybrid`` (v1 with an additional v2 hierarchy), ``v1`` or ``none``; cgroups(7)."""
    if (folder / "cgroup.controllers").exists():
        return "v2"
    if (folder / "unified" / "cgroup.controllers").exists() or (folder / "unified").is_dir():
        return "hybrid"
    return "v1" if any((folder / name).is_dir() for name in ("memory", "cpu", "pids")) else "none"


def _may_raise(nofile: int) -> bool:
    """Return whether a child may raise a hard limit; tried out, for both capabilities and sandboxes restrict it."""
    if nofile == resource.RLIM_INFINITY or find_tool("prlimit") is None:
        return True
    argv = ("prlimit", f"--nofile={nofile}:{nofile + 1}", "true")
    return run(Command(argv=argv, accept=(0, 1))).code == 0


def _network_backend() -> str:
    if find_tool("podman") is None:
        return ""
    command = Command(argv=("podman", "info", "--format", "{{.Host.NetworkBackend}}"), accept=tuple(range(256)))
    finished = run(command)
    return finished.text if finished.code == 0 else ""


def _cni_lacks() -> tuple[str, ...]:
    """Return the packages without which podman's older network backend does not work."""
    plugins = any(Path(folder, "bridge").exists() for folder in _CNI)
    return (
        *(() if plugins else ("containernetworking-plugins",)),
        *(() if find_program("iptables") else ("iptables",)),
    )


def _netavark_lacks() -> tuple[str, ...]:
    """Return the packages without which podman's newer network backend does not work."""
    programs = [path for folder in _LIBRARIES if (path := Path(folder, "netavark")).exists()]
    if not programs:
        return ("netavark",)
    finished = run(Command(argv=(str(programs[0]), "version"), accept=tuple(range(256))))
    firewall = parse_firewall(finished.text)
    return () if find_program({"nftables": "nft"}.get(firewall, firewall)) else (firewall,)


def parse_firewall(version: str) -> str:
    """Return the firewall that netavark uses, by the output of ``netavark version``; before 1.11 that is iptables."""
    try:
        return str(json.loads(version).get("default_fw_driver") or "iptables")
    except (ValueError, AttributeError):
        return "iptables"
