"""Ports that a container publishes on the host."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
MOST = 65535
_PORT = re.compile(
    r"(?:(?:(?P<address>[0-9]+(?:\.[0-9]+){3})|\[(?P<long>[0-9a-fA-F:]+)\]):)?"
    r"(?:(?P<host>[0-9]+):)?(?P<number>[0-9]+)(?:/(?P<protocol>[a-z]+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """A port of the container (``8000``, ``tcp``), and the host's at ``address``: 0 for any that is free."""

    number: int
    protocol: str = "tcp"
    host: int = 0
    address: str = LOOPBACK

    @property
    def published(self) -> str:
        """As ``--publish`` takes it: ``127.0.0.1:8000:8000``."""
        host = str(self.host) if self.host else ""
        udp = "" if self.protocol == "tcp" else f"/{self.protocol}"
        return f"{self.where}:{host}:{self.number}{udp}"

    @property
    def where(self) -> str:
        """The address as it stands before a port: ``127.0.0.1``, ``[::1]``."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def meets(self, other: PublishedPort) -> bool:
        """Return whether both ask for one port of the host."""
        if not self.host or (self.host, self.protocol) != (other.host, other.protocol):
            return False
        addresses = {ipaddress.ip_address(port.address) for port in (self, other)}
        return len(addresses) == 1 or any(address.is_unspecified for address in addresses)


def parse_port(text: str) -> PublishedPort:
    """Parse ``[ADDRESS:][HOST:]NUMBER[/PROTOCOL]``; the host's port is the container's unless it is said.

    Raises ValueError for a number that no port has, and for an address that is none.
    """
    found = _PORT.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text}` is not a port")
    number = int(found["number"])
    host = int(found["host"] or number)
    if not 0 < number <= MOST or host > MOST:
        raise ValueError(f"`{text}`: ports are numbers from 1 to {MOST}")
    address = ipaddress.ip_address(found["address"] or found["long"] or LOOPBACK)
    return PublishedPort(number=number, protocol=found["protocol"] or "tcp", host=host, address=str(address))
