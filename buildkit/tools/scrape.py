"""Ask a service for its figures: one GET, with limits on time and size. The only importer of ``urllib.request``."""

from __future__ import annotations

from http import HTTPStatus
from urllib.error import HTTPError, URLError
from urllib.request import HTTPErrorProcessor, OpenerDirector, ProxyHandler, Request, build_opener

from buildkit.errors import FetchError

MOST_BYTES = 8 << 20
_ACCEPT = "text/plain;version=0.0.4"


class _NoRedirects(HTTPErrorProcessor):
    """Takes every answer as it is: a service does not send the monitor elsewhere."""

    def http_response(self, _request: Request, response: object) -> object:
        return response

    https_response = http_response  # type: ignore[assignment]


def scrape(url: str, *, seconds: float = 3.0) -> str:
    """Return the text of an ``http://`` or ``https://`` address. Raises FetchError; proxies are not asked."""
    if not url.startswith(("http://", "https://")):
        raise FetchError(f"{url}: must begin with http:// or https://")
    try:
        with _opener().open(Request(url, headers={"Accept": _ACCEPT}), timeout=seconds) as answer:  # noqa: S310 - see above
            if answer.status != HTTPStatus.OK:
                raise FetchError(f"{url}: answered {answer.status}")
            body: bytes = answer.read(MOST_BYTES + 1)
    except (HTTPError, URLError, OSError, ValueError) as error:
        raise FetchError(f"{url}: {getattr(error, 'reason', None) or error}") from error
    if len(body) > MOST_BYTES:
        raise FetchError(f"{url}: sent more than {MOST_BYTES} bytes")
    return body.decode("utf-8", "replace")


def _opener() -> OpenerDirector:
    return build_opener(ProxyHandler({}), _NoRedirects)
