"""Requires-Python of wheels and sdists on this host, which folders of find-links, unlike indexes, do not say."""

from __future__ import annotations

import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

_MOST_BYTES = 16 << 20  # metadata has the whole README


def read_requires_python(file: Path) -> str:
    """Return the Requires-Python of a distribution (PEP 440, unchecked), empty if it has none or is not an archive.

    What is no archive is refused when it is unpacked.
    """
    try:
        text = _read_wheel(file) if file.name.endswith(".whl") else _read_sdist(file)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile):
        return ""
    return str(HeaderParser().parsestr(text.decode("utf-8", "replace")).get("Requires-Python", "")).strip()


def _read_wheel(file: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(".dist-info/METADATA") and name.count("/") == 1:
                with archive.open(name) as member:
                    return member.read(_MOST_BYTES)
    return b""


def _read_sdist(file: Path) -> bytes:
    with tarfile.open(file) as archive:
        for entry in archive:
            if entry.isfile() and entry.name.endswith("/PKG-INFO") and entry.name.count("/") == 1:
                member = archive.extractfile(entry)
                return member.read(_MOST_BYTES) if member else b""
    return b""
