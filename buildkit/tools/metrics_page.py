"""The page ``/metrics`` of a running service, taken over HTTP with limits of size and time."""

from __future__ import annotations

import time
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

from buildkit.errors import BuildError, DefinitionError

_LARGEST = 16 << 20
_SECONDS = 10.0


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow no redirect: the page of another server is another service's."""


def fetch_page(url: str) -> str:
    """Return the page at a URL, ``/metrics`` where it has no path.

    Raises DefinitionError for what is no URL, and BuildError if there is no answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DefinitionError(f"{url!r} is no address of a service", hint="such as http://127.0.0.1:8000")
    address = url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/metrics"
    opener = build_opener(ProxyHandler({}), _NoRedirect)  # a service on loopback is behind no proxy
    until = time.monotonic() + _SECONDS
    data = b""
    try:
        with opener.open(address, timeout=_SECONDS) as answer:
            while chunk := answer.read1(1 << 16):
                data += chunk
                if len(data) > _LARGEST or time.monotonic() > until:
                    raise BuildError(
                        f"{address}: the page is too large or too slow", hint="is it a service's /metrics?"
                    )
    except HTTPError as error:
        raise BuildError(f"{address}: it answered {error.code}", hint="is it a service with /metrics?") from error
    except (URLError, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise BuildError(f"{address}: {why}", hint="is the service running? nox -s up, and its port") from error
    return data.decode("utf-8", "replace")
