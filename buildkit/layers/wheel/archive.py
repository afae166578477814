"""Read the archive of an untrusted wheel: every name is checked before any content is used.

ZIP as in PKWARE's APPNOTE, of which wheels use stored and deflated members. The standard library reads the directory;
ISA-L inflates the content, twice as fast as zlib and without the interpreter lock.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from buildkit.errors import WheelError
from buildkit.layers.tar.member_path import find_path_problem

CHUNK = 1 << 20
_READ = 1 << 18
_EXTRA_GUESS = 64  # most writers put no more bytes between a name and its content
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1
_UTF8 = 0x800


class BytesAt(Protocol):
    """A file, seekable, of which bytes can be read at any offset: one on a server, of which few are needed."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset`` on, fewer at the end of the file."""


class _FileBytes:
    """The bytes of a file, which is opened when it is first read, and closed with the last reference to this."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    def read_at(self, offset: int, count: int) -> bytes:
        if self._handle < 0:
            self._handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._handle, count, offset)

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


class WheelZip:
    """The files of one wheel's archive by name, in the archive's order, without directories.

    Raises WheelError if the file is not a complete archive, or holds a member that a wheel may not hold: a path that is
    absolute, leaves its folder, has backslashes or unprintable characters, or comes twice; a link or device; an
    encrypted member; a compression other than deflate.

    With ``at``, the archive's bytes are read from there, and ``path`` is only its name.
    """

    def __init__(self, path: Path, at: BytesAt | None = None) -> None:
        self.path = path
        self._at: BytesAt = at or _FileBytes(path)
        try:
            with zipfile.ZipFile(cast("BinaryIO", at) if at else path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
            raise WheelError(
                f"{path.name} cannot be read as a wheel: {error}", hint="it may be truncated; fetch it again"
            ) from error
        self.files: dict[str, zipfile.ZipInfo] = {}
        seen: set[str] = set()
        for entry in entries:
            self._check(entry, seen)
            if not entry.is_dir():
                self.files[entry.filename] = entry

    def refuse(self, what: str, member: str = "") -> WheelError:
        """Return an error that names the wheel and, if given, the member."""
        place = f"{self.path.name}: {member!r}" if member else self.path.name
        return WheelError(f"{place} {what}", hint="do not install it, unless you know who built it and why")

    def is_executable(self, name: str) -> bool:
        """Tell whether the member's Unix mode has an executable bit."""
        mode = self.files[name].external_attr >> 16
        return stat.S_ISREG(mode) and bool(mode & 0o111)

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a small member; raises WheelError if it is missing or larger than ``limit`` bytes."""
        entry = self.files.get(name)
        if entry is None:
            raise self.refuse("is missing", name)
        if entry.file_size > limit:
            raise self.refuse(f"has {entry.file_size} bytes, more than such a file may have", name)
        return b"".join(self.stream(name))

    def head(self, name: str, count: int) -> bytes:
        """Return the first bytes of a member, ``count`` at most; neither its size nor its CRC is checked."""
        return next(self._inflate(self.files[name], count), b"")[:count]

    def stream(self, name: str) -> Iterator[bytes]:
        """Yield the member's content in chunks of at most a mebibyte; size and CRC are checked on the way."""
        from isal import isal_zlib  # slow to load: only builds that pack a layer need it

        entry = self.files[name]
        crc = size = 0
        for chunk in self._inflate(entry):
            size += len(chunk)
            if size > entry.file_size:
                raise self.refuse(f"inflates to more than the {entry.file_size} bytes it declares", name)
            crc = isal_zlib.crc32(chunk, crc)
            yield chunk
        if size != entry.file_size:
            raise self.refuse(f"inflates to {size} bytes, but declares {entry.file_size}", name)
        if crc != entry.CRC:
            raise self.refuse("is damaged: its CRC is wrong", name)

    def _inflate(self, entry: zipfile.ZipInfo, chunk_size: int = CHUNK) -> Iterator[bytes]:
        from isal import isal_zlib

        damaged = cast("type[Exception]", isal_zlib.error)  # its stub takes the class for an instance
        raws = self._raw(entry)
        if entry.compress_type == zipfile.ZIP_STORED:
            yield from raws
            return
        inflater = isal_zlib.decompressobj(-15)
        try:
            for raw in raws:
                while raw and not inflater.eof:
                    if chunk := inflater.decompress(raw, chunk_size):
                        yield chunk
                    raw = inflater.unconsumed_tail  # noqa: PLW2901 - the rest of it
            if not inflater.eof and (rest := inflater.flush()):
                yield rest
        except damaged as error:
            raise self.refuse(f"is damaged: {error}", entry.filename) from error

    def _raw(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield the stored bytes of a member; a small one takes a single read, with its header."""
        guess = _LOCAL.size + len(entry.orig_filename) + _EXTRA_GUESS + min(entry.compress_size, _READ)
        start = self._at.read_at(entry.header_offset, guess)
        skip = self._content_offset(start, entry)
        left = entry.compress_size
        offset = entry.header_offset + skip
        raw = start[skip : skip + left]
        while left:
            raw = raw or self._at.read_at(offset, min(left, _READ))
            if not raw:
                raise self.refuse("is truncated", entry.filename)
            offset += len(raw)
            left -= len(raw)
            yield raw
            raw = b""

    def _content_offset(self, start: bytes, entry: zipfile.ZipInfo) -> int:
        """Return the offset of the content; the local header must agree with the directory's name and method."""
        if len(start) < _LOCAL.size or not start.startswith(b"PK\3\4"):
            raise self.refuse("is damaged: it has no local header", entry.filename)
        _, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(start)
        end = _LOCAL.size + name_length
        name = start[_LOCAL.size : end].decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        if name != entry.orig_filename or method != entry.compress_type or flags & _ENCRYPTED:
            raise self.refuse("does not match the archive's directory", entry.filename)
        return int(end + extra_length)

    def _check(self, entry: zipfile.ZipInfo, seen: set[str]) -> None:
        name = entry.orig_filename
        if why := find_name_problem(name.removesuffix("/")):
            raise self.refuse(why, name)
        if entry.header_offset < 0:
            raise self.refuse("is damaged: it begins before the archive does", name)
        if entry.flag_bits & _ENCRYPTED:
            raise self.refuse("is encrypted", name)
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise self.refuse("is compressed by another method than deflate", name)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise self.refuse("is a symbolic link or a device, which a wheel may not hold", name)
        if name in seen:
            raise self.refuse("comes twice in the archive", name)
        seen.add(name)


def find_name_problem(path: str) -> str:
    """Return what is wrong with a wheel's path, as a phrase; it is stricter than for other members."""
    if "\\" in path:
        return "has a backslash in its path"
    if not path.isprintable():
        return "has an unprintable character in its path"
    return find_path_problem(path)
