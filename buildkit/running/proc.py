"""Parse what the kernel reports about a container's processes, proc(5)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_LISTEN = "0A"
_NOT_OURS = (_LISTEN, "03", "07", "0C")  # requests that came in, and what is no connection (net/tcp_states.h)
_BOUND = "07"  # of udp: no other end
_UNLIMITED = 1 << 60  # cgroups v1 write a number close to the maximum for "no limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """The status of a process: ids (real, effective, saved, file system), capability sets, and restrictions.

    ``seccomp`` is 0 for none, 1 for strict, 2 for a filter.
    """

    name: str
    uids: tuple[int, ...]
    gids: tuple[int, ...]
    capabilities: tuple[tuple[str, int], ...]
    no_new_privileges: bool
    seccomp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """A mounted file system: its path and type; ``options`` are those of the mount point."""

    target: str
    kind: str
    options: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningSocket:
    """A socket that waits for connections (tcp), or is bound (udp)."""

    protocol: str
    address: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of the container can connect."""
        address = ipaddress.ip_address(self.address)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback  # as Java binds 127.0.0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection (tcp, also one that is being opened, or has just ended), or a socket with another end (udp)."""

    protocol: str
    port: int
    remote: str
    remote_port: int


def parse_status(text: str) -> ProcessStatus:
    """Parse ``/proc/PID/status``. Raises ValueError or KeyError for other text."""
    fields = dict(line.split(":", 1) for line in text.split("\n") if ":" in line)  # a name may have other line ends
    return ProcessStatus(
        name=fields["Name"].strip(),
        uids=tuple(map(int, fields["Uid"].split())),
        gids=tuple(map(int, (fields["Gid"] + " " + fields.get("Groups", "")).split())),
        capabilities=tuple((name, int(fields[name], 16)) for name in CAPABILITY_SETS if name in fields),
        no_new_privileges=fields.get("NoNewPrivs", "0").strip() == "1",
        seccomp=int(fields.get("Seccomp", "0")),
    )


def parse_mounts(text: str) -> tuple[MountPoint, ...]:
    """Parse ``/proc/PID/mountinfo``."""
    return tuple(_mounts(text))


def _mounts(text: str) -> Iterator[MountPoint]:
    for line in text.split("\n"):  # a path may have other line ends
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) >= 6:
            target = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
            yield MountPoint(target=target, kind=after.split(" ")[0], options=frozenset(fields[5].split(",")))


def parse_listening(text: str, protocol: str) -> tuple[ListeningSocket, ...]:
    """Parse ``/proc/PID/net/tcp``, ``tcp6``, ``udp`` or ``udp6``; ``protocol`` is ``tcp`` or ``udp``."""
    return tuple(_listening(text, protocol))


def _listening(text: str, protocol: str) -> Iterator[ListeningSocket]:
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != (_LISTEN if protocol == "tcp" else _BOUND):
            continue
        address, port = _parse_end(fields[1])
        yield ListeningSocket(protocol=protocol, address=str(address), port=port)


def _parse_end(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    address, _, port = text.partition(":")
    words = bytes.fromhex(address)  # of four bytes, each in the host's order: little-endian where we run
    turned = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    return ipaddress.ip_address(turned), int(port, 16)


def parse_connections(text: str, protocol: str) -> tuple[Connection, ...]:
    """Parse ``/proc/PID/net/tcp``, ``tcp6``, ``udp`` or ``udp6``: what has another end that is not in the container."""
    return tuple(_connections(text, protocol))


def _connections(text: str, protocol: str) -> Iterator[Connection]:
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or (fields[3] == _BOUND if protocol == "udp" else fields[3] in _NOT_OURS):
            continue
        (own, port), (remote, remote_port) = _parse_end(fields[1]), _parse_end(fields[2])
        if remote == own:  # the container asks itself by the address that others know
            continue
        if isinstance(remote, ipaddress.IPv6Address):
            remote = remote.ipv4_mapped or remote
        if not remote.is_loopback:
            yield Connection(protocol=protocol, port=port, remote=str(remote), remote_port=remote_port)


def parse_default_routes(route: str, route6: str) -> tuple[str, ...]:
    """Return interfaces with a default route, from ``/proc/PID/net/route`` and ``ipv6_route``, except ``lo``."""
    found = [fields[0] for line in route.splitlines()[1:] if (fields := line.split())[1:2] == ["00000000"]]
    for line in route6.splitlines():
        fields = line.split()
        if len(fields) == 10 and fields[0] == "0" * 32 and fields[1] == "00":
            found.append(fields[9])
    return tuple(dict.fromkeys(name for name in found if name != "lo"))


def parse_cgroup_limit(text: str) -> int | None:
    """Parse a limit of a cgroup: a number, or None for ``max`` and for numbers that mean it."""
    value = text.strip()
    return int(value) if value.isdecimal() and int(value) < _UNLIMITED else None
