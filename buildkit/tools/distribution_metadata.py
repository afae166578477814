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
from buildkit.tools.remote_file import RemoteFile, TooMuchError

_MOST_BYTES = 16 << 20  # metadata has the whole README
_MOST_FETCHED = 64 << 20


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
        return _parse(io.BufferedReader(RemoteFile(session, url, size, most=_MOST_FETCHED)), file)
    except TransientFailure as failure:
        raise failure.error from None
    except TooMuchError:
        return ""


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
