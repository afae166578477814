"""The requests of one upload of a blob: where it begins, and where the registry says that it goes on.

Distribution specification 1.1, "Pushing blobs". Nothing is hashed here: the registry verifies the digest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import quote

from buildkit.digest import Digest
from buildkit.digits import find_number
from buildkit.tools.distribution.connections import (
    FilePart,
    HttpRequest,
    HttpResponse,
    Operation,
    RegistryOrigin,
)
from buildkit.tools.distribution.session import RepositorySession, RequestFailed, failure_of
from buildkit.tools.growing_blob import GrowingBlob

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_NO_HEADERS: Mapping[str, str] = {}

Body = bytes | FilePart | GrowingBlob


class BegunUpload:
    """An upload to one repository. ``place`` is where its next request goes; none before the registry has begun it.

    ``smallest`` is how many bytes a PATCH must have, but for the last. ``report`` is called with the bytes that have
    been sent of a body. Methods raise RequestFailed.
    """

    def __init__(self, session: RepositorySession, operation: Operation, report: Callable[[int], None]) -> None:
        self._session = session
        self._operation = operation
        self._report = report
        self.place: tuple[RegistryOrigin, str] | None = None
        self.smallest = 0

    def begin(self) -> None:
        """Begin an upload."""
        response = self._post("", ())
        if response.status != 202:
            raise failure_of(response)

    def mount(self, digest: Digest, source: str) -> bool:
        """Return whether a blob was mounted from another repository; a registry that cannot begins an upload."""
        path = self._session.full_path(source)
        query = f"?mount={quote(str(digest))}&from={quote(path, safe='')}"
        return self._post(query, (f"repository:{path}:pull",)).status == 201

    def patch(self, body: Body, headers: Mapping[str, str] = _NO_HEADERS) -> HttpResponse:
        """Send bytes that follow those before."""
        place = self._current()
        response = self._request("PATCH", place, body, headers)
        if not 200 <= response.status < 300:
            raise failure_of(response)
        self._follow(response, place)
        return response

    def finish(self, digest: Digest, body: Body = b"") -> None:
        """Give what was sent, and ``body``, its digest."""
        origin, target = self._current()
        query = f"{'&' if '?' in target else '?'}digest={quote(str(digest))}"
        response = self._request("PUT", (origin, target + query), body)
        if response.status not in (200, 201, 204):
            raise failure_of(response)

    def find_received(self) -> int | None:
        """Return how many bytes the registry has; None if it has forgotten the upload, or does not say."""
        place = self._current()
        response = self._request("GET", place)
        if not 200 <= response.status < 300:
            return None
        self._follow(response, place)
        return read_range(response)

    def cancel(self) -> None:
        """Have the registry drop what it has, if it does that."""
        if self.place is not None:
            with suppress(RequestFailed):
                self._request("DELETE", self.place)

    def _post(self, query: str, scopes: tuple[str, ...]) -> HttpResponse:
        place = self._session.origin(self._operation), f"/v2/{self._session.path}/blobs/uploads/"
        response = self._request("POST", (place[0], place[1] + query), scopes=scopes)
        if response.status == 202:
            self._follow(response, place)
        return response

    def _follow(self, response: HttpResponse, place: tuple[RegistryOrigin, str]) -> None:
        """Keep where the upload goes on."""
        location = response.headers.get("location")
        if location:
            request = HttpRequest(method="GET", origin=place[0], target=place[1])
            self.place = self._session.resolve(self._operation, request, location)
        elif self.place is None:
            raise RequestFailed("the registry names no place for an upload")
        self.smallest = find_number(response.headers.get("oci-chunk-min-length", "")) or self.smallest

    def _current(self) -> tuple[RegistryOrigin, str]:
        if self.place is None:
            raise AssertionError("no upload has begun")
        return self.place

    def _request(
        self,
        method: str,
        place: tuple[RegistryOrigin, str],
        body: Body = b"",
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        scopes: tuple[str, ...] = (),
    ) -> HttpResponse:
        kind = {} if isinstance(body, bytes) else {"Content-Type": "application/octet-stream"}
        start = body.start if isinstance(body, FilePart) else 0
        request = HttpRequest(
            method=method,
            origin=place[0],
            target=place[1],
            headers={**kind, **headers},
            body=body,
            sent=lambda done: None if isinstance(body, bytes) else self._report(start + done),
        )
        return self._session.request(self._operation, request, (*self._session.push_scopes, *scopes))


def read_range(response: HttpResponse) -> int | None:
    """Return how many bytes of an upload the registry has; None if it does not say."""
    found = _RANGE.fullmatch(response.headers.get("range", ""))
    return int(found[1]) + 1 if found else None
