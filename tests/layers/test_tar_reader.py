"""Sizes in tar headers that no tar writer makes."""

import io
import tarfile

import pytest

from buildkit.errors import BuildError
from buildkit.layers.tar.reader import TarReader


def tar_with_size(field: bytes, pax: dict[str, str] | None = None) -> bytes:
    """A tar of one empty file whose header has ``field`` as its size, with a checksum that is right."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a")
        entry.pax_headers = pax or {}
        archive.addfile(entry)
    data = bytearray(out.getvalue())
    start = data.rindex(b"ustar") - 257
    data[start + 124 : start + 136] = field
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


@pytest.mark.parametrize(
    ("field", "why"),
    [
        pytest.param(b"-0000000001\0", "is not an octal number", id="signed octal"),
        pytest.param(b"00000001_00\0", "is not an octal number", id="underscore"),
        pytest.param(b"\xff" * 12, "a size is negative", id="negative base 256"),
    ],
)
def test_impossible_size_is_refused(field: bytes, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        for _ in TarReader([tar_with_size(field)], "the layer"):
            pass


def test_pax_size_of_many_digits_is_refused() -> None:
    data = tar_with_size(b"00000000000\0", {"size": "1" * 5000})
    with pytest.raises(BuildError, match="a size is too long"):
        list(TarReader([data], "the layer"))


def read_fields(entry: tarfile.TarInfo, form: int) -> dict[str, str]:
    """Return the fields of an empty file that the standard library wrote."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        archive.addfile(entry)
    (header,) = TarReader([out.getvalue()], "the layer")
    return dict(header.fields)


def test_number_that_fills_its_field_in_base_256_is_read_whole() -> None:
    entry = tarfile.TarInfo("a")
    entry.uid, entry.mtime = (1 << 55) - 2, -3
    fields = read_fields(entry, tarfile.GNU_FORMAT)
    assert (fields["uid"], fields["mtime"]) == (str((1 << 55) - 2), "-3")


def test_pax_record_of_an_owner_goes_before_the_header() -> None:
    entry = tarfile.TarInfo("a")
    entry.uname, entry.gname = "ü" * 20, "plain"
    fields = read_fields(entry, tarfile.PAX_FORMAT)
    assert (fields["uname"], fields["gname"]) == ("ü" * 20, "plain")


def raw_header(**fields: bytes) -> bytes:
    """A block of zeros with these fields at the places of the ustar format, and a checksum that is right."""
    places = {"name": 0, "mode": 100, "size": 124, "mtime": 136, "type": 156, "magic": 257, "prefix": 345, "rest": 500}
    block = bytearray(512)
    for name, value in {"type": b"0", "magic": b"ustar\x0000", **fields}.items():
        block[places[name] : places[name] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_field_that_is_full_ends_where_the_next_begins() -> None:
    """No field needs a terminator, so each must end at its own last byte."""
    block = raw_header(
        name=b"n" * 100, mode=b"0" * 8, size=b"0" * 12, mtime=b"7" * 12, prefix=b"p" * 155, rest=b"x" * 12
    )
    (header,) = TarReader([block + bytes(1024)], "the layer")
    assert (header.path, header.size) == (b"p" * 155 + b"/" + b"n" * 100, 0)
    assert (header.fields["mode"], header.fields["mtime"]) == ("0000", str(8**12 - 1))


def test_sparse_file_without_further_headers_is_followed_by_its_content() -> None:
    block = raw_header(name=b"hole", size=b"00000000003", type=b"S", magic=b"ustar  \0")
    reader = TarReader([block + b"abc" + bytes(509 + 1024)], "the layer")
    assert [(header.path, b"".join(reader.content())) for header in reader] == [(b"hole", b"abc")]
