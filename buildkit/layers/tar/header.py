"""Tar headers as bytes, in the POSIX.1-2001 (pax) interchange format; a layer needs three types of entry.

Every field that could depend on the host is fixed: owner 0:0 without names, time 0, devices 0. What fits into ``ustar``
takes one block of 512 bytes, with long ASCII paths split into its prefix field. Only a path or link that is not ASCII
or does not fit, or a size of 8 GiB or more, gets an extended header. ``tarfile`` is not used because its headers are
much slower (a layer of wheels has thousands) and vary with its version.
"""

from __future__ import annotations

import struct

BLOCK = 512
END = bytes(2 * BLOCK)

FILE, DIRECTORY, SYMLINK, _EXTENDED = b"0", b"5", b"2", b"x"
_NAME, _PREFIX, _LINK = 100, 155, 100
_BIGGEST = 8**11 - 1
# name, mode, uid, gid, size, mtime, checksum, type, link, magic, uname, gname, devmajor, devminor, prefix
_USTAR = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_ZERO = b"0000000\0"
_NO_TIME = b"00000000000\0"
_MAGIC = b"ustar\x0000"
_BLANK_CHECKSUM = b" " * 8


def render_header(path: str, typeflag: bytes, *, size: int = 0, mode: int = 0o644, link: str = "") -> bytes:
    """Return the blocks that precede an entry's content; the ``path`` of a directory ends in ``/``."""
    extended: list[tuple[str, str]] = []
    fitted = _fit(path)
    if fitted is None:
        extended.append(("path", path))
        fitted = b"", _shortened(path, _NAME)
    target = link.encode("ascii", "replace")
    if not link.isascii() or len(target) > _LINK:
        extended.append(("linkpath", link))
        target = target[:_LINK]
    if size > _BIGGEST:
        extended.append(("size", str(size)))
    stated = 0 if size > _BIGGEST else size
    block = _block(fitted, typeflag, stated, mode, target)
    return _render_extended(extended) + block if extended else block


def header_size(path: str, size: int = 0, link: str = "") -> int:
    """Return the number of bytes of `render_header`, which does not depend on the type."""
    is_plain = len(path) <= _NAME and path.isascii() and size <= _BIGGEST and not link
    return BLOCK if is_plain else len(render_header(path, FILE, size=size, link=link))


def padding(size: int) -> bytes:
    """Return the zeros that fill ``size`` bytes of content up to whole blocks."""
    return bytes(-size % BLOCK)


def _fit(path: str) -> tuple[bytes, bytes] | None:
    """Split ``path`` into ustar's prefix and name; None if it needs an extended header."""
    if not path.isascii():
        return None
    raw = path.encode("ascii")
    if len(raw) <= _NAME:
        return b"", raw
    # the first slash that leaves a name short enough; the slash that ends a directory's name stays with it
    cut = raw.find(b"/", len(raw) - _NAME - 1, len(raw) - 1)
    return (raw[:cut], raw[cut + 1 :]) if 0 < cut <= _PREFIX else None


def _shortened(path: str, length: int) -> bytes:
    return path.encode("ascii", "replace")[:length]


def _block(place: tuple[bytes, bytes], typeflag: bytes, size: int, mode: int, link: bytes) -> bytes:
    prefix, name = place
    block = _USTAR.pack(
        name, b"%07o\0" % mode, _ZERO, _ZERO, b"%011o\0" % size, _NO_TIME, _BLANK_CHECKSUM,
        typeflag, link, _MAGIC, b"", b"", _ZERO, _ZERO, prefix,
    )  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _render_extended(records: list[tuple[str, str]]) -> bytes:
    data = b"".join(pax_record(key, value.encode()) for key, value in records)
    place = b"", b"././@PaxHeader"
    return _block(place, _EXTENDED, len(data), 0o644, b"") + data + padding(len(data))


def pax_record(key: str, value: bytes) -> bytes:
    """Return ``LENGTH KEY=VALUE\\n``, where LENGTH counts its own digits too."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(rest) + len(str(length)) != length:
        length = len(rest) + len(str(length))
    return str(length).encode() + rest
