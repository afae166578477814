"""What a host's podman can hold a container to, and what it cannot: never passed over in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from buildkit.running.flags import ContainerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PodmanHost:
    """podman as ``podman info`` describes it.

    ``controllers`` are those of cgroups that podman may use; ``systemd`` is whether there is one to run health checks;
    ``network`` is the network backend as it names itself (``netavark 1.14.0``), ``closes`` whether a network with no
    way out could be made by it (None: not tried). ``options`` are those without which podman starts nothing here.
    """

    version: str = ""
    rootless: bool = False
    cgroups: str = "v2"
    controllers: tuple[str, ...] = ()
    seccomp: bool = True
    systemd: bool = True
    network: str = ""
    closes: bool | None = None
    options: tuple[str, ...] = ()

    @property
    def may_close(self) -> bool:
        """Whether it is worth trying: netavark takes the option since 1.7, and older ones pass it over in silence."""
        found = re.fullmatch(r"netavark (\d+)\.(\d+)\..*", self.network)
        return found is not None and (int(found[1]), int(found[2])) >= (1, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedFlag:
    """Something that is recommended and that this host cannot do; ``needs`` is what its flags need."""

    needs: str
    what: str
    hint: str


def parse_host(told: dict[str, Any], *, systemd: bool) -> PodmanHost:
    """From the JSON of ``podman info``, 4.3 to 6.0."""
    host = told.get("host") or {}
    security = host.get("security") or {}
    return PodmanHost(
        version=str((told.get("version") or {}).get("Version") or ""),
        rootless=bool(security.get("rootless")),
        cgroups=str(host.get("cgroupVersion") or ""),
        controllers=tuple(map(str, host.get("cgroupControllers") or ())),
        network=str((host.get("networkBackendInfo") or {}).get("version") or host.get("networkBackend") or ""),
        seccomp=bool(security.get("seccompEnabled")),
        systemd=systemd,
    )


def find_unsupported(container: ContainerSpec, host: PodmanHost) -> tuple[UnsupportedFlag, ...]:
    """What of the recommended flags this host cannot do."""
    return tuple(_lacks(container, host))


def _lacks(container: ContainerSpec, host: PodmanHost) -> Iterator[UnsupportedFlag]:
    running = container.running
    limits = {"memory": f"--memory={running.memory}", "pids": f"--pids-limit={running.pids}"}
    for controller, flag in limits.items():
        if why := _unlimited(controller, host):
            yield UnsupportedFlag(
                needs=controller, what=f"{flag} cannot be applied: {why}", hint=_delegate(controller, host)
            )
    if container.closed and host.closes is False:
        who = f"podman {host.version} with {host.network or 'no netavark'}"
        yield UnsupportedFlag(
            needs="closed",
            what=f"connections to elsewhere cannot be refused: {who} makes no closed network",
            hint="podman 4.6 with netavark 1.7, and later ones, do",
        )
    if not host.seccomp:
        what = "system calls are not filtered: this podman has no seccomp"
        yield UnsupportedFlag(needs="seccomp", what=what, hint="install a podman that was built with it")
    if container.health is not None and not host.systemd:
        what = "nobody asks the container whether it is well: podman leaves that to systemd, which does not run here"
        yield UnsupportedFlag(needs="health", what=what, hint=f"podman healthcheck run {container.name}")


def _unlimited(controller: str, host: PodmanHost) -> str:
    """Why podman cannot limit something; empty where it can."""
    if host.rootless and host.cgroups == "v1":
        return "an ordinary user has no limits with cgroups v1"
    if controller not in host.controllers:
        return f"podman may not use the {controller} controller of cgroups {host.cgroups}"
    return ""


def _delegate(controller: str, host: PodmanHost) -> str:
    if host.rootless and host.cgroups == "v2":
        return f"delegate it to users: Delegate={controller} in a drop-in of user@.service"
    return "start the host with cgroups v2 (systemd.unified_cgroup_hierarchy=1), or run as root"
