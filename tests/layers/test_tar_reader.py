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
