"""The proxy for a host, from HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go's programs read them (x/net/http/httpproxy)."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_HTTP = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy; ``authorization`` is the value of ``Proxy-Authorization``, empty for none."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def find_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy for requests to a host; raises LeftToSkopeo for one that is not plain HTTP."""
    variable = f"{scheme.upper()}_PROXY"
    setting = os.environ.get(variable) or os.environ.get(variable.lower())
    if not setting or _is_excluded(host, port):
        return None
    try:
        url = urlsplit(setting if "://" in setting else f"http://{setting}")
        address, at = url.hostname, url.port
    except ValueError:
        raise LeftToSkopeo(f"{variable} is not a URL") from None
    if url.scheme != "http" or not address:
        raise LeftToSkopeo(f"{variable} names no HTTP proxy, but {url.scheme}")
    secret = f"{unquote(url.username)}:{unquote(url.password or '')}" if url.username else ""
    encoded = base64.b64encode(secret.encode()).decode("ascii")
    return Proxy(host=address, port=at or _HTTP, authorization=f"Basic {encoded}" if secret else "")


def _is_excluded(host: str, port: int) -> bool:
    import ipaddress  # only needed where a proxy is set

    name = host.rstrip(".").lower()
    entries = [entry.strip() for entry in (os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "").split(",")]
    if name == "localhost" or "*" in entries:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return any(_is_below(name, port, entry.lower()) for entry in entries)
    return address.is_loopback or any(_is_within(address, port, entry) for entry in entries)


def _is_below(name: str, port: int, entry: str) -> bool:
    """Return whether an entry (``example.com``, ``.example.com``, ``example.com:8080``) covers a name."""
    domain, colon, wanted = entry.removeprefix("*").partition(":")
    if not domain or (colon and wanted != str(port)):
        return False
    return name.endswith(domain) if domain.startswith(".") else name == domain or name.endswith(f".{domain}")


def _is_within(address: IPv4Address | IPv6Address, port: int, entry: str) -> bool:
    """Return whether an entry (``10.0.0.0/8``, ``10.0.0.1``, ``10.0.0.1:8080``) covers an address."""
    import ipaddress

    bare = entry.removesuffix(f":{port}").strip("[]")
    try:
        return address in ipaddress.ip_network(bare, strict=False)
    except ValueError:
        return False
