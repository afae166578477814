"""The page ``/metrics`` of a running service."""

from __future__ import annotations

from urllib.parse import urlsplit

from buildkit.errors import BuildError, DefinitionError, FetchError
from buildkit.tools.scrape import format_address, scrape

_SECONDS = 10.0


def fetch_page(url: str) -> str:
    """Return the page at a URL, ``/metrics`` where it has no path.

    Raises DefinitionError for what is no URL, and BuildError if there is no answer.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise DefinitionError(f"{format_address(url)} is no address of a service", hint="such as http://127.0.0.1:8000")
    try:
        return scrape(url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/metrics", seconds=_SECONDS)
    except FetchError as error:
        raise BuildError(
            error.message, hint="is the service running (nox -s up), and is that its port and /metrics?"
        ) from error
