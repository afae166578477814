"""Tar-split files: the bytes of a layer's tar that its files do not hold, as containers-storage keeps them.

Lines of JSON, in gzip (vbatts/tar-split, tar/storage): *segments* are bytes of the tar in base64, *files* name a path
whose content stands here, with its size and its CRC-64 (ISO 3309). A file's path may come once. Only files with content
are named; everything else is part of segments.
"""

from __future__ import annotations

import binascii
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from buildkit.lazy_dataclass import dataclass

_FILE, _SEGMENT = 1, 2
_WHOLE = 1 << 20  # bytes of a segment
_LINES = 1 << 16  # bytes of lines that are compressed at once
_PLAIN = re.compile(rb"[ !#-\[\]-~]+")  # names that JSON writes as they are
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_GZIP = 31  # window bits: zlib's 15, with a gzip header of time 0


@dataclass(frozen=True, slots=True)
class SplitFile:
    """The content of ``path`` stands here."""

    path: bytes
    size: int
    crc: int


class TarSplitWriter:
    """Writes a tar-split file to ``out``."""

    def __init__(self, out: BinaryIO) -> None:
        from isal import isal_zlib

        self._out = out
        self._compressor = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)
        self._raw = bytearray()
        self._lines: list[bytes] = []
        self._waiting = 0
        self._position = 0

    def segment(self, data: memoryview | bytes) -> None:
        """Add bytes of the tar."""
        self._raw += data
        while len(self._raw) >= _WHOLE:
            self._segment(bytes(self._raw[:_WHOLE]))
            del self._raw[:_WHOLE]

    def file(self, path: bytes, size: int, crc: int) -> None:
        """Add the content of a file."""
        if self._raw:
            self._segment(bytes(self._raw))
            self._raw.clear()
        payload = binascii.b2a_base64(crc.to_bytes(8, "big"), newline=False)
        self._line(
            b'{"type":1,%s,"size":%d,"payload":"%s","position":%d}\n' % (_name(path), size, payload, self._next())
        )

    def close(self) -> None:
        """Write what is left, and end the file."""
        if self._raw:
            self._segment(bytes(self._raw))
        self._write()
        self._out.write(self._compressor.flush())

    def _segment(self, data: bytes) -> None:
        payload = binascii.b2a_base64(data, newline=False)
        self._line(b'{"type":2,"payload":"%s","position":%d}\n' % (payload, self._next()))

    def _next(self) -> int:
        self._position += 1
        return self._position - 1

    def _line(self, line: bytes) -> None:
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting > _LINES:
            self._write()

    def _write(self) -> None:
        self._out.write(self._compressor.compress(b"".join(self._lines)))
        self._lines, self._waiting = [], 0


def read_tar_split(file: BinaryIO) -> Iterator[bytes | SplitFile]:
    """Yield the segments and files of a tar-split file. Raises ValueError if it is damaged; OSError passes."""
    try:
        with gzip.GzipFile(fileobj=file) as lines:
            for line in lines:
                entry = json.loads(line)
                payload = binascii.a2b_base64(entry["payload"] or "")
                if entry["type"] == _SEGMENT:
                    yield payload
                elif entry["type"] == _FILE and entry.get("size"):
                    name = entry["name"].encode() if "name" in entry else binascii.a2b_base64(entry["name_raw"])
                    yield SplitFile(name, int(entry["size"]), int.from_bytes(payload, "big"))
    except _DAMAGED as error:
        raise ValueError(str(error)) from error


def _name(path: bytes) -> bytes:
    if _PLAIN.fullmatch(path):
        return b'"name":"%s"' % path
    try:
        return b'"name":%s' % json.dumps(path.decode()).encode()
    except UnicodeDecodeError:
        return b'"name_raw":"%s"' % binascii.b2a_base64(path, newline=False)
