"""A running container against what is declared for it: findings, and those that are accepted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from buildkit.audit import running_rules
from buildkit.audit import running_watch_rules as rules
from buildkit.audit.audit import limit_findings, make_printable
from buildkit.audit.capabilities import NAMES
from buildkit.audit.running import Observation, check_observed, format_capability_bits
from buildkit.audit.running_code import check_code
from buildkit.audit.running_flags import check_flags
from buildkit.audit.sighting import (
    DeclaredContainer,
    GivenFlags,
    ImageState,
    ImageVerdict,
    NetworkSight,
    Sighting,
)
from buildkit.declare.services import FILE
from buildkit.findings import Finding
from buildkit.running.proc import MountPoint, ProcessStatus

_PODMANS = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerVerdict:
    """The findings about a container, those that are accepted with the reasons, and whether all of it was examined."""

    findings: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, str], ...]
    complete: bool


def judge(seen: Sighting, given: GivenFlags, image: ImageVerdict, declared: DeclaredContainer) -> ContainerVerdict:
    """Return the verdict on a container. What could not be read is a finding, too."""
    found = [
        *_check_image(image),
        *(Finding(rule=rules.NOT_CHECKED, what=f"not read: {what}", path="proc") for what in seen.unread),
        *check_observed(_observe(seen, declared)),
        *check_flags(given, seen, declared),
        *check_code(seen.code),
        *_check_connections(seen.networks, declared),
    ]
    accepted = dict(_granted(seen, declared))
    findings = []
    for finding in limit_findings(dict.fromkeys(map(make_printable, found))):
        if why := _find_reason(finding, declared):
            accepted[finding] = why
        else:
            findings.append(finding)
    complete = all(finding.rule is not rules.NOT_CHECKED for finding in (*findings, *accepted))
    return ContainerVerdict(findings=tuple(findings), accepted=tuple(accepted.items()), complete=complete)


def _check_image(image: ImageVerdict) -> Iterator[Finding]:
    if image.state is ImageState.DIFFERS:
        yield Finding(rule=rules.IMAGE_DIFFERS, what=image.why, path="Image")
    elif image.state is ImageState.UNKNOWN:
        yield Finding(rule=rules.IMAGE_UNVERIFIED, what=image.why, path="Image")


def _observe(seen: Sighting, declared: DeclaredContainer) -> Observation:
    """Return what was seen in the words of the audit that starts containers, without capabilities that are granted."""
    granted = _granted_bits(declared)
    return Observation(
        processes=tuple(_mask(process, ~granted) for process in seen.processes),
        environment=seen.environment,
        mounts=tuple(mount for mount in seen.mounts if not _is_podmans(mount)),
        tmpfs=declared.spec.places,
        memory=seen.memory,
        pids=seen.pids,
        listening=tuple(socket for network in seen.networks for socket in network.listening),
        ports=declared.ports,
        outgoing=declared.spec.running.outgoing,
        ways_out=tuple(dict.fromkeys(name for network in seen.networks for name in network.ways_out)),
        shared=seen.shared,
    )


def _is_podmans(mount: MountPoint) -> bool:
    """Return whether podman mounts it into every container, writable where the root is."""
    return mount.target in _PODMANS


def _mask(process: ProcessStatus, bits: int) -> ProcessStatus:
    return replace(process, capabilities=tuple((name, held & bits) for name, held in process.capabilities))


def _granted_bits(declared: DeclaredContainer) -> int:
    names = {name.lower() for name in declared.spec.capabilities}
    return sum(1 << number for number, name in enumerate(NAMES) if name in names)


def _granted(seen: Sighting, declared: DeclaredContainer) -> Iterator[tuple[Finding, str]]:
    """Yield the capabilities that processes have because services.toml grants them."""
    granted = _granted_bits(declared)
    for process in dict.fromkeys(_mask(process, granted) for process in seen.processes):
        for sort, bits in process.capabilities:
            if bits:
                what = f"{process.name} has {sort}: {format_capability_bits(bits)}"
                finding = Finding(rule=running_rules.PROCESS_CAPABILITIES, what=what, path="/proc/1/status")
                yield make_printable(finding), _say(declared, "capability:")


def _say(declared: DeclaredContainer, prefix: str) -> str:
    reasons = (why for allow, why in declared.reasons.items() if allow.startswith(prefix))
    return f"{'; '.join(dict.fromkeys(reasons)) or 'an exception'} ({FILE})"


def _find_reason(finding: Finding, declared: DeclaredContainer) -> str:
    """Return why a finding is accepted; empty if it is not."""
    if allow := _find_exception(finding, declared.spec.exceptions):
        return _say(declared, allow)
    if finding.rule is rules.MOUNTED_CODE and declared.spec.gpu:
        return "the driver of the GPU that it asks for is mounted into it"
    found = (one for one in declared.acceptances if one.covers(finding))
    return next((f"{one.reason} ({one.file})" for one in found), "")


def _find_exception(finding: Finding, exceptions: Iterable[str]) -> str:
    for allow in exceptions:
        kind, _, folder = allow.partition(":")
        if (
            (kind == "writable-root" and finding.rule is running_rules.ROOT_WRITABLE)
            or (kind == "new-privileges" and finding.rule is running_rules.NEW_PRIVILEGES)
            or (kind == "executable" and _is_of_folder(finding, folder))
        ):
            return allow
    return ""


def _is_of_folder(finding: Finding, folder: str) -> bool:
    """Return whether a finding is that programs can be started from a folder, or that one of it runs."""
    if finding.rule is running_rules.EXECUTABLE_PLACE:
        return finding.path == folder
    return finding.rule is rules.WRITABLE_CODE and f"/{finding.path}".startswith(f"{folder}/")


def _check_connections(networks: Iterable[NetworkSight], declared: DeclaredContainer) -> Iterator[Finding]:
    """Yield connections to other hosts of a container whose network is meant to be closed.

    What others opened ends at a port on which it listens, or at one that it declares.
    """
    if declared.spec.running.outgoing:
        return
    for network in networks:
        served = {f"{one.port}/{one.protocol}" for one in network.listening} | set(declared.ports)
        for one in dict.fromkeys(network.connections):
            if f"{one.port}/{one.protocol}" not in served and one.remote not in declared.peers:
                what = f"a connection to {one.remote}, port {one.remote_port}/{one.protocol}"
                yield Finding(rule=rules.CONNECTION_OUT, what=what, path=f"/proc/1/net/{one.protocol}")
