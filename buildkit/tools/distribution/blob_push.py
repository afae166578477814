"""Upload one blob: mounted from another repository, whole, or in chunks where the connection or the registry cuts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildkit.digest import Digest
from buildkit.errors import DamagedError
from buildkit.tools.distribution.begun_upload import BegunUpload, read_range
from buildkit.tools.distribution.connections import FilePart, HttpRequest, HttpResponse, Operation
from buildkit.tools.distribution.session import RepositorySession, RequestFailed, failure_of

_CHUNK = 32 << 20
_SMALLEST_CHUNK = 8 << 20
_TOO_LARGE, _WRONG_RANGE = 413, 416
_NOT_WHOLE = frozenset((405, 501))  # a registry that takes blobs in chunks only
_AGAIN = frozenset(("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "DIGEST_INVALID", "SIZE_INVALID"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSource:
    """A blob to be in a repository: digest, size in bytes, and its file; None if only the registry may have it."""

    digest: Digest
    size: int
    path: Path | None
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

    ``report`` is called with the bytes of the blob that have been sent. ``find_mount`` gives the path of another
    repository of the same registry that may have it, or "".
    """

    def __init__(
        self,
        session: RepositorySession,
        operation: Operation,
        blob: BlobSource,
        report: Callable[[int], None],
        find_mount: Callable[[Digest], str],
    ) -> None:
        self._session = session
        self._operation = operation
        self._blob = blob
        self._report = report
        self._find_mount = find_mount
        self._upload = BegunUpload(session, operation, report)
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
                self._upload.place = None
                failure.transient = True
            elif failure.status == _WRONG_RANGE:
                failure.transient = True
            elif not failure.status:  # the connection was cut
                self._chunk = self._chunk or _CHUNK
            raise

    def mount(self) -> bool:
        """Return whether the registry has mounted the blob from the other repository; nothing else is begun."""
        mounted = self._mount()
        self._upload.cancel()
        return mounted

    def is_there(self) -> bool:
        """Return whether the repository has the blob."""
        response = self._look("HEAD")
        elsewhere = response.origin != self._session.origin(self._operation)
        if response.status in (405, 501) or (elsewhere and response.status in (401, 403)):
            response = self._look("GET")
        if response.status not in (200, 404):
            raise failure_of(response)
        return response.status == 200

    def _look(self, method: str) -> HttpResponse:
        origin, target = self._session.origin(self._operation), f"/v2/{self._session.path}/blobs/{self._blob.digest}"
        request = HttpRequest(method=method, origin=origin, target=target)
        return self._session.request(self._operation, request, self._session.push_scopes)

    def _run(self) -> bool:
        if self._upload.place is None and self._open():
            return False
        try:
            while self._chunk and self._offset < self._blob.size:
                self._put_chunk()
            whole = self._part(self._blob.size) if not self._offset and not self._chunk else b""
            self._upload.finish(self._blob.digest, whole)
        except RequestFailed as failure:
            if not self._cut_smaller(failure):
                raise
            self._upload.place, self._offset = None, 0
            return self._run()
        self._offset = self._blob.size
        return True

    def _open(self) -> bool:
        """Begin the upload; return True if the registry has mounted the blob instead."""
        if self._tries == 1 and self._mount():
            return True
        if self._upload.place is None:
            self._upload.begin()
        return False

    def _mount(self) -> bool:
        """Return whether the blob was mounted; a registry that cannot begins an upload, or refuses."""
        if source := self._find_mount(self._blob.digest):
            with suppress(RequestFailed):  # perhaps for lack of rights there
                return self._upload.mount(self._blob.digest, source)
        return False

    def _put_chunk(self) -> None:
        size = min(max(self._chunk, self._upload.smallest), self._blob.size - self._offset)
        headers = {"Content-Range": f"{self._offset}-{self._offset + size - 1}"}
        response = self._upload.patch(self._part(size), headers)
        end = read_range(response)
        if end is not None and not self._offset < end <= self._offset + size:
            raise RequestFailed("the registry says that it has other parts than were sent", transient=True)
        self._offset = end or self._offset + size

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
        self._offset = 0
        if self._upload.place is None:
            return
        end = None
        with suppress(RequestFailed):
            end = self._upload.find_received()
        if end is not None and 1 < end <= self._blob.size:
            self._offset, self._chunk = end, self._chunk or _CHUNK
        else:
            self._upload.place = None

    def _part(self, size: int) -> FilePart:
        if self._blob.path is None:
            raise AssertionError("a blob without a file is not uploaded")
        return FilePart(path=self._blob.path, start=self._offset, size=size)
