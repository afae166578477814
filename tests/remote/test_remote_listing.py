"""Listings: the paths of a layer are read as they were written, and any other document is refused as malformed."""

from __future__ import annotations

import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import Digest
from buildkit.hostile_json import MalformedError
from buildkit.remote.listing import decode_listing, encode_listing
from tests.remote.records import overwrite


def test_unknown_listing_differs_from_an_empty_one() -> None:
    assert decode_listing(encode_listing([])) == []
    with pytest.raises(MalformedError, match="not published"):
        decode_listing(encode_listing(None))


def test_listing_that_is_too_large_to_be_read_is_not_written() -> None:
    many = [(f"a/{n}", Digest.of(str(n).encode()).hex) for n in range(120_000)]
    listing = encode_listing(many)
    assert len(listing) < 100
    with pytest.raises(MalformedError, match="not published"):
        decode_listing(listing)
    assert decode_listing(encode_listing(many[:60_000])) == many[:60_000]


@given(st.data())
def test_listing_with_any_bytes_overwritten_is_read_safely(data: st.DataObject) -> None:
    plain = bytearray(zlib.decompress(encode_listing([("a/b", "0" * 64), ("c", "-> ../d")])))
    overwrite(plain, data)
    try:
        found = decode_listing(zlib.compress(plain))
    except MalformedError:
        return
    assert not any({"", ".", ".."} & set(path.split("/")) for path, _ in found)
    json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[]", b'["a"]', b'["a",1]', b'["a","b","c"]', b'["a","b"]', b'{"a":"b"}', b'["../a","-> b"]',
     b'["/a","-> b"]', b'["a\\u0000","-> b"]', b'["a","-> \\u0000"]', b'["a","-> \\ud800"]', b'["a\\nb","-> b"]',
     b"[" * 100_000, b'["' + b"a" * 20_000 + b'","-> b"]', b'["a","' + b"0" * 63 + b'"]', b"[" * 300_000],
)  # fmt: skip
def test_listing_with_an_impossible_line_is_refused(line: bytes) -> None:
    good = b'["b","-> c"]\n'
    assert decode_listing(zlib.compress(good)) == [("b", "-> c")]
    with pytest.raises(MalformedError):
        decode_listing(zlib.compress(good + line + b"\n"))


def test_listing_that_is_cut_off_is_refused() -> None:
    with pytest.raises(MalformedError, match="cut off"):
        decode_listing(zlib.compress(b'["b","-> c"]'))


def test_compression_bombs_are_refused_in_little_memory() -> None:
    listings = {
        "zeros": zlib.compress(b"0" * (100 << 20)),
        "lines": zlib.compress(b"\n" * (100 << 20)),
        "returns": zlib.compress(b"\r" * (60 << 20) + b"\n"),
        "short": zlib.compress(b'["a","-> "]\n' * 600_000),
    }
    tracemalloc.start()
    try:
        for bomb in listings.values():
            with pytest.raises(MalformedError):
                decode_listing(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300 << 20
