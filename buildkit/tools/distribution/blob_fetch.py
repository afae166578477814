"""Download one blob into a file: hashed while it comes, and resumed where the connection was cut.

Distribution specification 1.1, "Pulling blobs": a ``Range`` of bytes is an offer, and a registry may send everything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from buildkit.digest import Digest
from buildkit.tools.distribution.connections import HttpRequest, Operation
from buildkit.tools.distribution.session import RepositorySession, RequestFailed, failure_of

_PARTIAL, _NO_SUCH_RANGE = 206, 416
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


OpenFile = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens the file of a blob at its end."""


def at_end_of(path: Path) -> OpenFile:
    """Return what opens a file at its end, and creates it."""
    return lambda: path.open("ab")


class BlobFetch:
    """The download of a blob, of a digest and a size, into a file that is empty at first.

    ``run`` may be repeated after a failure: it opens the file again, at its end, and goes on after the last byte that
    came. ``report`` is called with the bytes of the blob that have come and can be read, and with 0 before it begins
    anew.
    """

    def __init__(
        self,
        session: RepositorySession,
        blob: tuple[Digest, int],
        open_file: OpenFile,
        report: Callable[[int], None],
    ) -> None:
        self._session = session
        self._digest, self._size = blob
        self._open_file = open_file
        self._out: BinaryIO | None = None
        self._report = report
        self._hash = hashlib.sha256()
        self._got = 0

    def run(self, operation: Operation) -> None:
        """Download what is missing; raises RequestFailed, also for bytes that do not match the digest."""
        if not self._got or self._got < self._size:
            with self._open_file() as self._out:
                self._cut()  # a write that failed may have left more than was counted
                self._get(operation)
        if self._got != self._size:
            raise RequestFailed(f"the registry sent {self._got} of {self._size} bytes")
        if self._hash.hexdigest() != self._digest.hex:
            raise RequestFailed(f"Digest did not match, expected {self._digest}, got sha256:{self._hash.hexdigest()}")

    def _get(self, operation: Operation) -> None:
        request = HttpRequest(
            method="GET",
            origin=self._session.origin(operation),
            target=f"/v2/{self._session.path}/blobs/{self._digest}",
            headers={"Range": f"bytes={self._got}-"} if self._got else {},
            into=self._start,
        )
        response = self._session.request(operation, request, self._session.pull_scopes)
        if response.status == _NO_SUCH_RANGE and self._got:
            self._begin_anew()
            raise RequestFailed("the registry cannot go on where the blob was cut", transient=True)
        if response.status not in (200, _PARTIAL):
            raise failure_of(response)

    def _start(self, status: int, headers: Mapping[str, str]) -> Callable[[memoryview], None]:
        """Look at where a body begins, and return what takes it."""
        found = _RANGE.fullmatch(headers.get("content-range", "")) if status == _PARTIAL else None
        start = int(found[1]) if found else 0
        if start == 0:
            self._begin_anew()
        elif start != self._got:
            raise RequestFailed("the registry sent another part of a blob than was asked for")
        return self._take

    def _begin_anew(self) -> None:
        self._hash, self._got = hashlib.sha256(), 0
        self._report(0)
        self._cut()

    def _cut(self) -> None:
        """Leave the file with the bytes that were counted."""
        out = self._file()
        out.seek(self._got)
        out.truncate()

    def _take(self, block: memoryview) -> None:
        if self._got + len(block) > self._size:
            raise RequestFailed(f"file too large: a blob has more than the {self._size} bytes that its manifest names")
        self._file().write(block)
        self._file().flush()
        self._hash.update(block)
        self._got += len(block)
        self._report(self._got)

    def _file(self) -> BinaryIO:
        if self._out is None:
            raise AssertionError("no file is open")
        return self._out
