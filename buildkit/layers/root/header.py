"""Tar headers of a root's entries, which have owners, special modes, hard links and extended attributes.

The format is that of ``layers.tar.header``: POSIX.1-2001 (pax), time 0, no owner names; extended attributes are
``SCHILY.xattr.`` records, as GNU tar, star and every container engine read them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from buildkit.layers.tar.header import padding, pax_record

FILE, HARDLINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"
_EXTENDED = b"x"
_NAME, _OCTAL7, _OCTAL11 = 100, 8**7 - 1, 8**11 - 1
# name, mode, uid, gid, size, mtime, checksum, type, link, magic, uname, gname, devmajor, devminor, prefix
_USTAR = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")


@dataclass(frozen=True, slots=True, kw_only=True)
class RootEntry:
    """One entry of a root: ``path`` without a slash at either end, the mode with its special bits, numeric owner.

    ``link`` is the target of a symbolic link, or the path of the entry that a hard link refers to. ``xattrs`` are
    names and values, sorted.
    """

    path: str
    kind: bytes = FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    link: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()


def render_entry(entry: RootEntry) -> bytes:
    """Return the blocks that precede the entry's content."""
    path = f"{entry.path}/" if entry.kind == DIRECTORY else entry.path
    records = [
        (key, text.encode())
        for key, text in (("path", path), ("linkpath", entry.link))
        if not text.isascii() or len(text) > _NAME
    ]
    records += [
        (key, b"%d" % number)
        for key, number, most in (
            ("uid", entry.uid, _OCTAL7),
            ("gid", entry.gid, _OCTAL7),
            ("size", entry.size, _OCTAL11),
        )
        if number > most
    ]
    records += [(f"SCHILY.xattr.{name}", value) for name, value in entry.xattrs]
    block = _block(entry, path)
    if not records:
        return block
    data = b"".join(pax_record(key, value) for key, value in records)
    head = _block(RootEntry(path="././@PaxHeader", kind=_EXTENDED, size=len(data)), "././@PaxHeader")
    return head + data + padding(len(data)) + block


def _block(entry: RootEntry, path: str) -> bytes:
    block = _USTAR.pack(
        path.encode("ascii", "replace")[:_NAME],
        b"%07o\0" % entry.mode,
        _octal(entry.uid, 7), _octal(entry.gid, 7), _octal(entry.size, 11),
        b"00000000000\0",  # time 0
        b" " * 8,  # the checksum is computed with blanks in its place
        entry.kind,
        entry.link.encode("ascii", "replace")[:_NAME],
        b"ustar\x0000", b"", b"", b"0000000\0", b"0000000\0", b"",
    )  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(number: int, digits: int) -> bytes:
    return b"%0*o\0" % (digits, number if number < 8**digits else 0)
