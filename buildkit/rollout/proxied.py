"""What a proxy stands before: servers, one pool of them a version, and the users' split."""

from __future__ import annotations

from dataclasses import dataclass

METRICS_PORT = 8405
SOCKET = "/tmp/admin.sock"  # noqa: S108 - in the container; a folder that its image has keeps its mode in a restart


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyServer:
    """A replica by its address; one that is not ``enabled`` gets neither requests nor health checks."""

    name: str
    address: str
    port: int
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyPool:
    """The replicas of a version; ``share`` is how many of a thousand users it serves."""

    name: str
    servers: tuple[ProxyServer, ...]
    share: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """What a replica is given, and how long others wait.

    ``at_once`` are the requests that a replica handles at a time (0: any number); the others queue for at most
    ``queue_seconds``, then they are refused with 503 and Retry-After. ``answer_seconds`` is the longest answer.
    """

    at_once: int = 0
    queue_seconds: int = 30
    answer_seconds: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedService:
    """A service behind a proxy.

    ``listen`` is the port, or ``ADDRESS:PORT``. The first pool serves whom no other does. Users differ ``by``
    ``header:NAME``, ``cookie:NAME``, ``cookie`` (one that the proxy sets) or ``address``; ``salt`` makes the split
    independent of that of other services. ``probe`` is the path of the health check; without it, a connection is tried.
    ``socket`` is where the proxy takes commands; ``metrics`` is where it has its metrics, as ``listen``, or empty.
    """

    name: str
    listen: str
    pools: tuple[ProxyPool, ...]
    by: str = "address"
    salt: str = ""
    probe: str = ""
    limits: ProxyLimits = ProxyLimits()
    socket: str = SOCKET
    metrics: str = str(METRICS_PORT)
