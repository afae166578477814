"""The reader of hostile JSON: every method returns a value of its type within its limits, or names the path."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import Digest
from buildkit.hostile_json import MAX_NESTING, JsonValue, MalformedError, inflate_limited, parse_json

LIMIT = 1 << 20
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["\ud800", 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
READERS: list[Callable[[JsonValue], object]] = [
    lambda value: value.member("a"),
    lambda value: value.find("a"),
    lambda value: value.members(2),
    lambda value: value.items(2),
    lambda value: value.row(2),
    lambda value: value.text(2),
    lambda value: value.texts(2),
    lambda value: value.text_table(2),
    lambda value: value.integer(0, 2),
    lambda value: value.number(0, 2),
    lambda value: value.base64(2),
    lambda value: value.parsed(Digest.parse, "a digest"),
]


def parse(value: object) -> JsonValue:
    return parse_json(json.dumps(value).encode(), limit=LIMIT)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


# documents


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nul", b"NaN", b"[Infinity]", b"-Infinity", b"\xff", b'"\xed\xa0\x80"', b"\xef\xbb\xbf1", b"1 2",
     "{}".encode("utf-16"), b"[" * 100_000, b"9" * 100_000],
)  # fmt: skip
def test_anything_but_utf8_json_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="the index is not JSON"):
        parse_json(data, limit=LIMIT, what="the index")


@pytest.mark.parametrize("data", [b'{"a": 1, "a": 1}', b'[{"b": {"a": 1, "c": 2, "\\u0061": 3}}]'])
def test_doubled_key_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match=r"^the index has the key a twice in one object$"):
        parse_json(data, limit=LIMIT, what="the index")
    with pytest.raises(MalformedError) as caught:
        parse_json(b'{"\\u202e": 1, "\\u202e": 2}', limit=LIMIT)
    assert str(caught.value).isprintable()


def test_keys_that_mean_known_ones_are_refused() -> None:
    known = {"layers", "config"}
    assert parse({"layers": 1}).with_keys(known).raw == {"layers": 1}
    assert parse({"layers": 1, "x": 1}).with_keys(known, others=True).raw["x"] == 1
    for key in ("Layers", "LAYERS", "layer\u017f"):
        for others in (False, True):
            with pytest.raises(MalformedError, match="which some programs take for `layers`"):
                parse({"layers": 1, key: 2}).with_keys(known, others=others)
    with pytest.raises(MalformedError, match="it has the unknown key x"):
        parse({"x": 1}).with_keys(known)
    with pytest.raises(MalformedError, match="it is not an object"):
        parse([]).with_keys(known)


def test_document_over_the_size_limit_is_refused() -> None:
    assert parse_json(b"[ ]", limit=3).raw == []
    with pytest.raises(MalformedError, match="the index is larger than 3 bytes"):
        parse_json(b"[  ]", limit=3, what="the index")


@pytest.mark.parametrize("wrap", [lambda inner: b"[1," + inner + b"]", lambda inner: b'{"a":' + inner + b"}"])
def test_document_over_the_nesting_limit_is_refused(wrap: Callable[[bytes], bytes]) -> None:
    parse_json(nested(MAX_NESTING), limit=LIMIT)
    parse_json(wrap(nested(MAX_NESTING - 1)), limit=LIMIT)
    for deep in (nested(MAX_NESTING + 1), wrap(nested(MAX_NESTING))):
        with pytest.raises(MalformedError, match="nested more than 64 deep"):
            parse_json(deep, limit=LIMIT)


def test_compressed_data_is_inflated_up_to_its_limit() -> None:
    packed = zlib.compress(b"x" * 100)
    assert inflate_limited(packed, limit=100) == b"x" * 100
    for damaged, limit in ((packed, 99), (packed[:-1], 100), (b"", 100), (zlib.compress(bytes(1 << 26)), 100)):
        with pytest.raises(MalformedError, match="its listing is cut off, or larger than"):
            inflate_limited(damaged, limit=limit, what="its listing")
    with pytest.raises(MalformedError, match="its listing is not zlib data"):
        inflate_limited(b"plain", limit=100, what="its listing")


# values


def test_values_are_returned_by_type() -> None:
    document = parse({"a": {"b": ["x", "y"]}, "n": [1, 2.5], "null": None, "data": "//8="})
    assert document.member("a").member("b").texts(2) == ("x", "y")
    assert [item.path for item in document.member("a").member("b").items(2)] == ["a.b[0]", "a.b[1]"]
    assert document.find("null") is None
    assert document.find("missing") is None
    one, half = document.member("n").row(2)
    assert (one.integer(1, 1), one.number(0, 1), half.number(0, 3)) == (1, 1.0, 2.5)
    assert document.member("data").base64(2) == b"\xff\xff"
    assert parse("__8=").base64(2, url_safe=True) == b"\xff\xff"
    assert parse({"k": "v"}).text_table(1) == {"k": "v"}
    assert parse(str(Digest.of(b""))).parsed(Digest.parse, "a digest") == Digest.of(b"")


@pytest.mark.parametrize(
    ("value", "read", "message"),
    [
        ([], lambda v: v.member("a"), "it is not an object"),
        ({}, lambda v: v.member("a"), "it has no `a`"),
        ([], lambda v: v.find("a"), "it is not an object"),
        ({"a": 1, "b": 2}, lambda v: v.members(1), "it has more than 1 members"),
        ({"a": {}}, lambda v: v.member("a").items(1), "a is not a list"),
        ({"a": [1, 2]}, lambda v: v.member("a").items(1), "a has more than 1 items"),
        ([[1]], lambda v: v.items(1)[0].row(2), r"\[0\] does not have 2 items"),
        ([[1]], lambda v: v.items(1)[0].texts(1), r"\[0\]\[0\] is not a text"),
        ("abc", lambda v: v.text(2), "it is longer than 2 characters"),
        ({"a": "\ud800"}, lambda v: v.member("a").text(), "a contains a text that is not Unicode"),
        ({"\ud800": "a"}, lambda v: v.text_table(1), "it contains a text that is not Unicode"),
        (True, lambda v: v.integer(0, 1), "it is not an integer"),
        (1.0, lambda v: v.integer(0, 1), "it is not an integer"),
        ("1", lambda v: v.integer(0, 1), "it is not an integer"),
        (-1, lambda v: v.integer(0, 1), "it is not between 0 and 1"),
        (10**400, lambda v: v.number(0, 1), "it is not a number between 0 and 1"),
        (True, lambda v: v.number(0, 1), "it is not a number between 0 and 1"),
        ("*", lambda v: v.base64(9), "it is not base64"),
        ("ä", lambda v: v.base64(9), "it is not base64"),
        ("__8=", lambda v: v.base64(9), "it is not base64"),
        (base64.b64encode(b"xyz").decode(), lambda v: v.base64(2), "it is longer than 2 bytes"),
        ({"d": "sha1:x"}, lambda v: v.member("d").parsed(Digest.parse, "a digest"), "d is not a digest"),
        ({"d": 1}, lambda v: v.member("d").parsed(Digest.parse, "a digest"), "d is not a text"),
    ],
)
def test_value_of_another_type_or_size_is_refused_with_its_path(
    value: object, read: Callable[[JsonValue], object], message: str
) -> None:
    with pytest.raises(MalformedError, match=f"^{message}$"):
        read(parse(value))


def test_hostile_key_is_quoted_and_cut_in_messages() -> None:
    key = "\x1b[31m\u202e\n\x7f" + "k" * 10_000
    with pytest.raises(MalformedError) as caught:
        parse({key: 1}).members(1)[key].text()
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@given(VALUES)
def test_any_value_is_read_within_limits_or_refused(value: Any) -> None:
    for read in READERS:
        with suppress(MalformedError):
            document = parse(value)
            read(document)
