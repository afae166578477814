"""Native facts from other machines: values that are malformed decode to none."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from buildkit.native.facts import decode_facts, encode_facts

ROW = [62, 64, 3, "x.so", "", ["libc.so.6"], [], [], [["libc.so.6", ["GLIBC_2.17"]]], []]


def packed(**parts: Any) -> bytes:
    return zlib.compress(json.dumps({"format": 1, **parts}).encode())


def test_facts_decode_and_encode_to_the_same_bytes() -> None:
    facts = decode_facts(packed(files={"a/x.so": ROW}, links={"b": "a/x.so"}))
    assert facts is not None
    assert decode_facts(encode_facts(facts)) == facts


@pytest.mark.parametrize(
    "parts",
    [
        {"files": {"a": [float("inf"), *ROW[1:]]}},
        {"files": {"\ud800": ROW}},
        {"files": {"a": [*ROW[:3], "\ud800", *ROW[4:]]}},
        {"links": {"a": "\udcff"}},
        {"gone": ["\ud800"]},
        {"files": []},
    ],
)
def test_hostile_facts_decode_to_none(parts: dict[str, Any]) -> None:
    assert decode_facts(packed(**parts)) is None
