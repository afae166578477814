"""Find recommended flags that a host's podman does not support, so that they are reported."""

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
    ``network`` is the network backend with its version (``netavark 1.14.0``), ``closes`` whether it could create a
    network without a route to other hosts (None: not tried). podman starts no container here without ``options``.
    ``uids`` are the host's users in containers: first in them, first of the host, count; empty: the same.
    ``volumes`` is the folder in which volumes lie.
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
    uids: tuple[tuple[int, int, int], ...] = ()
    volumes: str = ""

    @property
    def may_close(self) -> bool:
        """Whether to try it: netavark supports the option since 1.7, and older versions ignore it."""
        found = re.fullmatch(r"netavark (\d+)\.(\d+)\..*", self.network)
        return found is not None and (int(found[1]), int(found[2])) >= (1, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedFlag:
    """A recommended flag that this host does not support; ``needs`` is the feature it needs (`PodmanFlag.needs`)."""

    needs: str
    what: str
    hint: str


def parse_host(info: dict[str, Any], *, systemd: bool) -> PodmanHost:
    """Parse the JSON of ``podman info``, 4.3 to 6.0."""
    host = info.get("host") or {}
    security, ids = host.get("security") or {}, host.get("idMappings") or {}
    return PodmanHost(
        version=str((info.get("version") or {}).get("Version") or ""),
        rootless=bool(security.get("rootless")),
        cgroups=str(host.get("cgroupVersion") or ""),
        controllers=tuple(map(str, host.get("cgroupControllers") or ())),
        network=str((host.get("networkBackendInfo") or {}).get("version") or host.get("networkBackend") or ""),
        seccomp=bool(security.get("seccompEnabled")),
        systemd=systemd,
        volumes=str((info.get("store") or {}).get("volumePath") or ""),
        uids=tuple((row["container_id"], row["host_id"], row["size"]) for row in ids.get("uidmap") or ()),
    )


def find_unsupported(container: ContainerSpec, host: PodmanHost) -> tuple[UnsupportedFlag, ...]:
    """Return the recommended flags that this host does not support."""
    return tuple(_unsupported(container, host))


def _unsupported(container: ContainerSpec, host: PodmanHost) -> Iterator[UnsupportedFlag]:
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
            what=f"connections to other hosts cannot be refused: {who} cannot create a closed network",
            hint="use podman 4.6 with netavark 1.7, or later versions",
        )
    if not host.seccomp:
        what = "system calls are not filtered: this podman has no seccomp"
        yield UnsupportedFlag(needs="seccomp", what=what, hint="install a podman that was built with it")
    if container.health is not None and not host.systemd:
        what = "the health check does not run: podman leaves that to systemd, which does not run here"
        yield UnsupportedFlag(needs="health", what=what, hint=f"podman healthcheck run {container.name}")


def _unlimited(controller: str, host: PodmanHost) -> str:
    """Return why podman cannot apply a limit; empty if it can."""
    if host.rootless and host.cgroups == "v1":
        return "an ordinary user has no limits with cgroups v1"
    if controller not in host.controllers:
        return f"podman may not use the {controller} controller of cgroups {host.cgroups}"
    return ""


def _delegate(controller: str, host: PodmanHost) -> str:
    if host.rootless and host.cgroups == "v2":
        return f"delegate it to users: Delegate={controller} in a drop-in of user@.service"
    return "start the host with cgroups v2 (systemd.unified_cgroup_hierarchy=1), or run as root"
