"""Requires-Python inside wheels and sdists, which folders and pages of links, unlike indexes, do not say."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from email.parser import HeaderParser
from pathlib import Path
from typing import IO

from buildkit.tools.http import HttpSession, TransientFailure

_MOST_BYTES = 16 << 20  # metadata has the whole README
_MOST_FETCHED = 64 << 20
_TAIL = 64 << 10  # most wheels have their directory and their metadata in their last bytes


def read_requires_python(file: Path) -> str:
    """Return the Requires-Python of a distribution (PEP 440, unchecked), empty if it has none or is not an archive.

    What is no archive is refused when it is unpacked.
    """
    try:
        with file.open("rb") as opened:
            return _parse(opened, file.name)
    except OSError:
        return ""


def fetch_requires_python(session: HttpSession, url: str, file: str) -> str:
    """Return the same for the distribution ``file`` at ``url``; of a wheel, only its end is fetched where possible.

    Empty, too, if more than 64 MiB would have to be fetched. Raises FetchError.
    """
    size = session.find_size(url)
    if size is None:
        return ""
    try:
        return _parse(io.BufferedReader(_RemoteFile(session, url, size)), file)
    except TransientFailure as failure:
        raise failure.error from None
    except _TooMuchError:
        return ""


class _TooMuchError(Exception):
    """More bytes are needed than are worth fetching."""


class _RemoteFile(io.RawIOBase):
    """A file on a server, of which the bytes from the lowest that was read to its end are here."""

    def __init__(self, session: HttpSession, url: str, size: int) -> None:
        self._session = session
        self._url = url
        self._size = size
        self._at = 0
        self._start = size
        self._here = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # of any writable buffer
        if self._at < self._start:
            self._fetch(min(self._at, max(self._size - _TAIL, 0)))
        data = self._here[self._at - self._start :][: len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self, start: int) -> None:
        with self._session.open(self._url, start=start) as response:
            self._start = start if response.status_code == 206 else 0
            if self._size - self._start > _MOST_FETCHED:
                raise _TooMuchError
            parts, length = [], 0
            for part in self._session.iter_body(self._url, response):
                parts.append(part)
                length += len(part)
                if length > _MOST_FETCHED:
                    raise _TooMuchError
        self._here = b"".join(parts)


def _parse(opened: IO[bytes], name: str) -> str:
    try:
        data = _read_wheel(opened) if name.endswith(".whl") else _read_sdist(opened)
    except (EOFError, RuntimeError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError):
        return ""
    return str(HeaderParser().parsestr(data.decode("utf-8", "replace")).get("Requires-Python", "")).strip()


def _read_wheel(file: IO[bytes]) -> bytes:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(".dist-info/METADATA") and name.count("/") == 1:
                with archive.open(name) as member:
                    return member.read(_MOST_BYTES)
    return b""


def _read_sdist(file: IO[bytes]) -> bytes:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/PKG-INFO") and name.count("/") == 1]
            return archive.read(names[0])[:_MOST_BYTES] if names else b""
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        for entry in archive:
            if entry.isfile() and entry.name.endswith("/PKG-INFO") and entry.name.count("/") == 1:
                member = archive.extractfile(entry)
                return member.read(_MOST_BYTES) if member else b""
    return b""
