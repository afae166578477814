"""Headers at the limits of the ustar format, read by the standard library."""

from __future__ import annotations

import io
import tarfile

import pytest

from buildkit.layers.tar.header import FILE, SYMLINK, header_size, render_header

BIGGEST = 8**11 - 1  # bytes, in eleven octal digits


def read(header: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as archive:
        member = archive.next()
    assert member is not None
    return member


@pytest.mark.parametrize(
    ("path", "size", "link", "plain"),
    [
        ("a" * 100, 0, "", True),
        ("a" * 101, 0, "", False),
        ("p/" + "a" * 100, 0, "", True),
        ("/" + "a" * 100, 0, "", False),
        ("p" * 155 + "/" + "a" * 100, 0, "", True),
        ("p" * 156 + "/" + "a" * 100, 0, "", False),
        ("a", 0, "l" * 100, True),
        ("a", 0, "l" * 101, False),
        ("a", BIGGEST, "", True),
        ("a", BIGGEST + 1, "", False),
        ("ä", 0, "", False),
        ("a", 0, "ä", False),
    ],
)
def test_header_at_a_limit_says_path_size_and_link_in_as_few_blocks_as_it_can(
    path: str, size: int, link: str, plain: bool
) -> None:
    header = render_header(path, SYMLINK if link else FILE, size=size, link=link)
    member = read(header)
    assert (member.name.rstrip("/"), member.size, member.linkname) == (path.rstrip("/"), size, link)
    assert header_size(path, size=size, link=link) == len(header)
    assert (len(header) == 512) == plain
