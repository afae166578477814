"""Upload one blob: mounted from another repository, whole, or in chunks where the connection or the registry cuts.

Distribution specification 1.1, "Pushing blobs". Nothing is hashed here: the registry verifies the known digest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from buildkit.digest import Digest
from buildkit.errors import DamagedError
from buildkit.tools.distribution.connections import FilePart, HttpRequest, HttpResponse, Operation, RegistryOrigin
from buildkit.tools.distribution.session import RepositorySession, RequestFailed, failure_of

_CHUNK = 32 << 20
_SMALLEST_CHUNK = 8 << 20
_TOO_LARGE, _WRONG_RANGE = 413, 416
_NOT_WHOLE = frozenset((405, 501))  # a registry that takes blobs in chunks only
_AGAIN = frozenset(("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "DIGEST_INVALID", "SIZE_INVALID"))
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSource:
    """A blob to be in a repository: digest, size in bytes, and its file; None if only the registry may have it.

    ``mount`` is the path of another repository of the same registry that may have it.
    """

    digest: Digest
    size: int
    path: Path | None
    mount: str = ""
    is_layer: bool = True

    def verify(self) -> None:
        """Read the file; raises DamagedError if it has other bytes than its digest says."""
        import hashlib

        if self.path is not None:
            with self.path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != self.digest.hex:
                    raise DamagedError(f"the cached {self.digest.short} was damaged", digests=(self.digest.hex,))


class BlobPush:
    """The upload of one blob. ``run`` may be repeated after a failure: it goes on where the registry is.

    ``report`` is called with the bytes of the blob that have been sent.
    """

    def __init__(
        self, session: RepositorySession, operation: Operation, blob: BlobSource, report: Callable[[int], None]
    ) -> None:
        self._session = session
        self._operation = operation
        self._blob = blob
        self._report = report
        self._scopes = session.push_scopes
        self._place: tuple[RegistryOrigin, str] | None = None  # of the upload that has begun
        self._offset = 0
        self._chunk = 0  # bytes of a request; 0: all at once
        self._tries = 0

    def run(self) -> bool:
        """Return whether bytes went up; False if the blob is there already. Raises RequestFailed and DamagedError."""
        self._tries += 1
        if self._tries > 1:
            if self.is_there():  # only the answer was lost
                return True
            self._resume()
        try:
            return self._run()
        except RequestFailed as failure:
            if failure.codes and set(failure.codes) <= _AGAIN:
                self._blob.verify()
                self._place = None
                failure.transient = True
            elif failure.status == _WRONG_RANGE:
                failure.transient = True
            elif not failure.status:  # the connection was cut
                self._chunk = self._chunk or _CHUNK
            raise

    def mount(self) -> bool:
        """Return whether the registry has mounted the blob from the other repository; nothing else is begun."""
        mounted = self._mount()
        if self._place is not None:
            with suppress(RequestFailed):
                self._send("DELETE", self._place)
        return mounted

    def is_there(self) -> bool:
        """Return whether the repository has the blob."""
        target = f"/v2/{self._session.path}/blobs/{self._blob.digest}"
        response = self._send("HEAD", (self._session.origin(self._operation), target))
        elsewhere = response.origin != self._session.origin(self._operation)
        if response.status in (405, 501) or (elsewhere and response.status in (401, 403)):
            response = self._send("GET", (self._session.origin(self._operation), target))
        if response.status not in (200, 404):
            raise failure_of(response)
        return response.status == 200

    def _run(self) -> bool:
        if self._place is None and self._open():
            return False
        try:
            while self._chunk and self._offset < self._blob.size:
                self._put_chunk()
            self._finish()
        except RequestFailed as failure:
            if not self._cut_smaller(failure):
                raise
            self._place, self._offset = None, 0
            return self._run()
        return True

    def _open(self) -> bool:
        """Begin the upload; return True if the registry has mounted the blob instead."""
        if self._tries == 1 and self._mount():
            return True
        if self._place is None:
            place = self._session.origin(self._operation), f"/v2/{self._session.path}/blobs/uploads/"
            response = self._send("POST", place)
            if response.status != 202:
                raise failure_of(response)
            self._follow(response, place)
        return False

    def _mount(self) -> bool:
        """Return whether the blob was mounted; a registry that cannot begins an upload, or refuses."""
        if not self._blob.mount:
            return False
        place = self._session.origin(self._operation), f"/v2/{self._session.path}/blobs/uploads/"
        source = self._session.full_path(self._blob.mount)
        query = f"?mount={quote(str(self._blob.digest))}&from={quote(source, safe='')}"
        scopes = (*self._scopes, f"repository:{source}:pull")
        with suppress(RequestFailed):  # perhaps for lack of rights there
            response = self._send("POST", (place[0], place[1] + query), scopes=scopes)
            if response.status == 202:
                self._follow(response, place)
            return response.status == 201
        return False

    def _put_chunk(self) -> None:
        place = self._current()
        size = min(self._chunk, self._blob.size - self._offset)
        headers = {"Content-Range": f"{self._offset}-{self._offset + size - 1}"}
        response = self._send("PATCH", place, self._part(size), headers)
        if not 200 <= response.status < 300:
            raise failure_of(response)
        end = _read_range(response)
        if end is not None and not self._offset < end <= self._offset + size:
            raise RequestFailed("the registry says that it has other parts than were sent", transient=True)
        self._offset = end or self._offset + size
        self._follow(response, place)

    def _finish(self) -> None:
        origin, target = self._current()
        query = f"{'&' if '?' in target else '?'}digest={quote(str(self._blob.digest))}"
        body = self._part(self._blob.size) if not self._offset and not self._chunk else b""
        response = self._send("PUT", (origin, target + query), body)
        if response.status not in (200, 201, 204):
            raise failure_of(response)
        self._offset = self._blob.size

    def _cut_smaller(self, failure: RequestFailed) -> bool:
        """Take smaller chunks after a refusal of the size; return False if that is not the cause."""
        whole = not self._chunk
        refused = failure.status == _TOO_LARGE or (whole and failure.status in _NOT_WHOLE)
        chunk = _CHUNK if whole else self._chunk // 2
        if not refused or chunk < _SMALLEST_CHUNK or (failure.status == _TOO_LARGE and self._blob.size <= chunk):
            return False
        self._chunk = chunk
        return True

    def _resume(self) -> None:
        """Ask the registry how much it has; begin anew if it has forgotten the upload."""
        place, self._place, self._offset = self._place, None, 0
        if place is None:
            return
        with suppress(RequestFailed):
            response = self._send("GET", place)
            end = _read_range(response)
            if 200 <= response.status < 300 and end is not None and 1 < end <= self._blob.size:
                self._offset, self._chunk = end, self._chunk or _CHUNK
                self._place = place
                self._follow(response, place)

    def _follow(self, response: HttpResponse, place: tuple[RegistryOrigin, str]) -> None:
        """Keep where the upload goes on."""
        location = response.headers.get("location")
        if location:
            request = HttpRequest(method="GET", origin=place[0], target=place[1])
            self._place = self._session.resolve(self._operation, request, location)
        elif self._place is None:
            raise RequestFailed("the registry names no place for an upload")
        smallest = response.headers.get("oci-chunk-min-length", "")
        if self._chunk and smallest.isascii() and smallest.isdecimal() and len(smallest) < 12:
            self._chunk = max(self._chunk, int(smallest))

    def _current(self) -> tuple[RegistryOrigin, str]:
        if self._place is None:
            raise AssertionError("no upload has begun")
        return self._place

    def _part(self, size: int) -> FilePart:
        if self._blob.path is None:
            raise AssertionError("a blob without a file is not uploaded")
        return FilePart(path=self._blob.path, start=self._offset, size=size)

    def _send(
        self,
        method: str,
        place: tuple[RegistryOrigin, str],
        body: FilePart | bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        scopes: tuple[str, ...] = (),
    ) -> HttpResponse:
        kind = {"Content-Type": "application/octet-stream"} if isinstance(body, FilePart) else {}
        request = HttpRequest(
            method=method, origin=place[0], target=place[1], headers={**kind, **(headers or {})}, body=body
        )
        if isinstance(body, FilePart):
            request = replace(request, sent=lambda done: self._report(body.start + done))
        return self._session.request(self._operation, request, scopes or self._scopes)


def _read_range(response: HttpResponse) -> int | None:
    """Return how many bytes of an upload the registry has; None if it does not say."""
    found = _RANGE.fullmatch(response.headers.get("range", ""))
    return int(found[1]) + 1 if found else None
