"""Findings about the flags of a running container that are weaker than what is declared for it. Pure."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from buildkit.audit import running_watch_rules as rules
from buildkit.audit.sighting import DeclaredContainer, GivenFlags, Sighting
from buildkit.declare.gpu_request import parse_size
from buildkit.findings import Finding, Severity
from buildkit.running.flags import ContainerSpec
from buildkit.running.mounts import BindMount
from buildkit.running.seccomp import PROFILE

_SOCKETS = ("podman.sock", "docker.sock", "containerd.sock", "crio.sock")
_AROUND = re.compile(r"/|(/var)?/run(/(podman|docker|containerd|crio|user(/[0-9]+(/podman)?)?))?")  # folders of them
_ALLOW = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
_NAMED = 5  # system calls in one message
_PLACE = "HostConfig"  # of podman's description of a container


def check_flags(given: GivenFlags, seen: Sighting, declared: DeclaredContainer) -> Iterator[Finding]:
    """Yield what is weaker than declared, and what the kernel's view of the processes does not show by itself."""
    if given.privileged:
        yield _weaker("--privileged takes every protection away", Severity.CRITICAL)
    if not declared.spec.gpu:
        for device in given.devices:
            yield _weaker(f"--device={device} is not declared", Severity.HIGH)
    yield from _check_mounts(given, seen, declared)
    yield from _check_limits(seen, declared.spec)
    yield from _check_published(given, declared.spec)
    if declared.spec.seccomp and not given.privileged:
        yield from _check_calls(given)


def _check_mounts(given: GivenFlags, seen: Sighting, declared: DeclaredContainer) -> Iterator[Finding]:
    """Yield files of the host that nobody declares; those that can be written to are findings of the kernel's view."""
    spec = declared.spec
    binds = (mount for mount in spec.mounts if isinstance(mount, BindMount))
    known = {*declared.sources, *((mount.source, mount.target) for mount in binds)}
    secret = {one.target for one in spec.secrets}  # podman-compose mounts the file of each
    writable = {mount.target for mount in seen.mounts if "rw" in mount.options}
    for source, target in given.sources:
        rule = None
        if source.endswith(_SOCKETS) or _AROUND.fullmatch(source):
            rule = rules.ENGINE_MOUNTED
        elif (source, target) not in known and target not in secret | writable:
            rule = rules.UNDECLARED_MOUNT
        if rule:
            yield Finding(rule=rule, what=f"{source} is mounted at {target}", path=target.lstrip("/"))


def _check_limits(seen: Sighting, spec: ContainerSpec) -> Iterator[Finding]:
    running = spec.running
    if seen.memory is not None and seen.memory > parse_size(running.memory):
        yield _weaker(f"it may use {seen.memory} bytes of memory, and {running.memory} is declared", Severity.LOW)
    if seen.pids is not None and seen.pids > running.pids:
        yield _weaker(f"it may have {seen.pids} processes, and {running.pids} is declared", Severity.LOW)


def _check_published(given: GivenFlags, spec: ContainerSpec) -> Iterator[Finding]:
    declared = {f"{port.number}/{port.protocol}": port.address for port in spec.ports}
    for port, address in given.published:
        if not _is_loopback(address) and (port not in declared or _is_loopback(declared[port])):
            yield _weaker(f"{port} is published on {address or 'every address of the host'}, not on loopback alone")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # empty: every address


def _check_calls(given: GivenFlags) -> Iterator[Finding]:
    if given.calls is None:
        yield Finding(rule=rules.NOT_CHECKED, what="its filter of system calls could not be read", path=_PLACE)
        return
    more = sorted({name for name, _ in given.calls - service_calls()})
    if more:
        shown = ", ".join(more[:_NAMED]) + (f" and {len(more) - _NAMED} more" if len(more) > _NAMED else "")
        yield _weaker(f"its seccomp profile allows what a service's refuses: {shown}")


@cache
def service_calls() -> frozenset[tuple[str, str]]:
    """Return the system calls that the service's profile allows, each with its conditions."""
    return parse_calls(json.loads(PROFILE.read_text("utf-8")))


def parse_calls(profile: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return the system calls that a seccomp profile allows, with their conditions.

    It is one as podman reads it, or as a runtime does (``linux.seccomp`` of the OCI runtime specification): they differ
    in what is not compared. A profile that allows what it does not name allows ``*``.
    """
    found = {("*", "")} if profile.get("defaultAction") in _ALLOW else set()
    for rule in profile.get("syscalls") or ():
        if rule.get("action") in _ALLOW:
            conditions = [
                [one.get("index", 0), one.get("value", 0), one.get("valueTwo", 0), one.get("op", "")]
                for one in rule.get("args") or ()
            ]
            found |= {(str(name), json.dumps(sorted(conditions)) if conditions else "") for name in rule["names"]}
    return frozenset(found)


def _weaker(what: str, severity: Severity | None = None) -> Finding:
    return Finding(rule=rules.WEAKER_FLAG, what=what, path=_PLACE, override=severity)
