"""Ask a service for its figures: one GET, with limits on time and size. No proxy is asked, no redirect followed."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

from buildkit.errors import FetchError

MOST_BYTES = 8 << 20
_SECRET = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)  # of an address: what is said of it is shown on a page
_ACCEPT = "text/plain;version=0.0.4"


def scrape(url: str, *, seconds: float = 3.0) -> str:
    """Return the text of an ``http://`` or ``https://`` address, which may take so many seconds. Raises FetchError."""
    place = _SECRET.sub("", url)
    if not url.startswith(("http://", "https://")):
        raise FetchError(f"{place}: must begin with http:// or https://")
    until = time.monotonic() + seconds
    try:
        status, body = _get(urlsplit(url), seconds)
    except (HTTPException, OSError, ValueError, OverflowError) as error:
        late = time.monotonic() >= until
        raise FetchError(f"{place}: {'took too long' if late else _explain(error)}") from error
    if time.monotonic() >= until:
        raise FetchError(f"{place}: took too long")
    if status != HTTPStatus.OK:
        raise FetchError(f"{place}: answered {status}")
    if len(body) > MOST_BYTES:
        raise FetchError(f"{place}: sent more than {MOST_BYTES} bytes")
    return body.decode("utf-8", "replace")


def _get(parts: SplitResult, seconds: float) -> tuple[int, bytes]:
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=seconds)) as connection:
        connection.connect()
        alarm = threading.Timer(seconds, _hang_up, (connection.sock,))  # a timeout is for each byte anew
        alarm.start()
        try:
            target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
            connection.request("GET", target, headers={"Accept": _ACCEPT})
            with connection.getresponse() as answer:
                return answer.status, answer.read(MOST_BYTES + 1)
        finally:
            alarm.cancel()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _explain(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return "it does not answer by HTTP"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
