"""Ask a service for its figures: one GET, with limits on time and size. No proxy is asked, no redirect followed."""

from __future__ import annotations

import base64
import socket
import threading
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit

from buildkit.errors import FetchError

MOST_BYTES = 8 << 20
_ACCEPT = "text/plain;version=0.0.4"


def scrape(url: str, *, seconds: float = 3.0) -> str:
    """Return the text of an ``http://`` or ``https://`` address, which may take so many seconds. Raises FetchError.

    User and password of the address are sent (HTTP Basic), and are in no message.
    """
    shown = format_address(url)
    if not url.startswith(("http://", "https://")):
        raise FetchError(f"{shown}: must begin with http:// or https://")
    until = time.monotonic() + seconds
    try:
        status, body = _get(urlsplit(url), seconds)
    except (HTTPException, OSError, ValueError, OverflowError) as error:
        late = time.monotonic() >= until
        raise FetchError(f"{shown}: {'took too long' if late else _explain(error)}") from None  # it may name the URL
    if time.monotonic() >= until:
        raise FetchError(f"{shown}: took too long")
    if status != HTTPStatus.OK:
        raise FetchError(f"{shown}: answered {status}")
    if len(body) > MOST_BYTES:
        raise FetchError(f"{shown}: sent more than {MOST_BYTES} bytes")
    return body.decode("utf-8", "replace")


def format_address(url: str) -> str:
    """Return what may be shown of an address: no user, password and query, and nothing of what is none."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "the address"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}" if host else "the address"


def _get(parts: SplitResult, seconds: float) -> tuple[int, bytes]:
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=seconds)) as connection:
        connection.connect()
        alarm = threading.Timer(seconds, _hang_up, (connection.sock,))  # a timeout is for each byte anew
        alarm.start()
        try:
            target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
            connection.request("GET", target, headers={"Accept": _ACCEPT, **_log_in(parts)})
            with connection.getresponse() as answer:
                return answer.status, answer.read(MOST_BYTES + 1)
        finally:
            alarm.cancel()


def _log_in(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode('ascii')}"}


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it has ended
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _explain(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return "it does not answer by HTTP"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it is no address"  # what is wrong quotes it
