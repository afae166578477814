"""Stage indexes and the native facts that they refer to: read as they were written, or refused as malformed."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import Digest, Key
from buildkit.hostile_json import MalformedError
from buildkit.layers.path_prefixes import MAX_PREFIXES
from buildkit.native import NOTHING
from buildkit.oci.reference import Ref
from buildkit.remote.cache_manifest import EMPTY
from buildkit.remote.cache_record import MAX_NATIVE_FACTS, CacheRecord, is_cache_tag
from buildkit.remote.stage_index import (
    FactsBlob,
    StageIndex,
    decode_stage_facts,
    decode_stage_index,
    encode_stage_facts,
    encode_stage_index,
    stage_index_tag,
)
from tests.remote.records import DIGESTS, FACTS, RECORDS, make_record, mutate, overwrite

SAMPLE_FACTS = {"format": 2, "facts": {"0" * 64: "eA=="}, "untold": ["1" * 64]}


@given(st.lists(RECORDS, max_size=5, unique_by=lambda record: record.key))
def test_stage_index_is_read_as_it_was_written_in_its_order(records: list[CacheRecord]) -> None:
    manifest = encode_stage_index(records)
    assert list(decode_stage_index(manifest).records.items()) == [(record.key, record) for record in records]
    assert {layer["digest"] for layer in json.loads(manifest)["layers"]} == {str(Digest.of(EMPTY))}


def test_stage_index_leaves_out_native_facts_of_records() -> None:
    record = make_record(native_facts=(b"facts",))
    assert decode_stage_index(encode_stage_index([record])).records[record.key].native_facts == ()


@given(FACTS, st.sets(DIGESTS, max_size=4))
def test_native_facts_of_a_stage_are_read_as_they_were_written(
    known: dict[Digest, bytes], unknown: set[Digest]
) -> None:
    digests = {*known, *unknown}
    data = encode_stage_facts(known, digests)
    if data is None:
        assert not known
        return
    assert decode_stage_facts(data, digests) == known
    assert data == encode_stage_facts(dict(reversed(known.items())), sorted(digests, key=str)), "in any order"
    facts = FactsBlob(Digest.of(data), len(data))
    index = decode_stage_index(encode_stage_index([make_record()], facts))
    assert index == StageIndex(records={make_record().key: make_record()}, facts=facts)


def test_layers_without_native_files_leave_the_facts_of_a_stage_unchanged() -> None:
    one, two, three, four = (Digest.of(bytes([n])) for n in range(4))
    known = {one: b"facts", two: NOTHING, three: NOTHING}
    data = encode_stage_facts(known, [one, two])
    assert data == encode_stage_facts(known, [one, three])
    assert data != encode_stage_facts(known, [one, two, four]), "unknown facts differ from no native files"
    assert data != encode_stage_facts(known, [two])


def test_unknown_and_too_large_native_facts_are_not_written() -> None:
    digests = [Digest.of(bytes([n])) for n in range(64)]
    assert encode_stage_facts({}, digests) is None
    assert encode_stage_facts({}, []) is None
    assert encode_stage_facts({digest: bytes(MAX_NATIVE_FACTS) for digest in digests}, digests) is None
    data = encode_stage_facts({digests[0]: b"facts", digests[1]: bytes(MAX_NATIVE_FACTS + 1)}, digests[:2])
    assert data is not None
    assert decode_stage_facts(data, digests[:2]) == {digests[0]: b"facts"}


def test_index_of_as_many_layers_as_an_image_may_have_is_small_enough() -> None:
    prefixes = tuple(f"opt/venv/lib/python3.13/site-packages/{n:060}" for n in range(MAX_PREFIXES))
    records = [make_record(key=Key.of(str(n).encode()), path_prefixes=prefixes) for n in range(64)]
    assert len(decode_stage_index(encode_stage_index(records)).records) == 64


def test_index_that_is_too_large_to_be_read_is_not_written() -> None:
    prefixes = tuple(f"{n:04}{'x' * 16_000}" for n in range(MAX_PREFIXES))
    with pytest.raises(MalformedError, match="too large"):
        encode_stage_index([make_record(path_prefixes=prefixes)])


# malformed documents


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format=1), "another version"),
        (lambda v: v.pop("format"), "has no `format`"),
        (lambda v: v.pop("untold"), "has no `untold`"),
        (lambda v: v.update(untold="1" * 64), "untold is not a list"),
        (lambda v: v.update(untold=["../x"]), r"untold\[0\] is not a digest"),
        (lambda v: v.update(untold=[1]), r"untold\[0\] is not a text"),
        (lambda v: v.update(facts=[]), "facts is not an object"),
        (lambda v: v.update(facts={"0" * 63: "eA=="}), "is not named by a digest"),
        (lambda v: v.update(facts={"0" * 64: "?"}), "is not base64"),
        (lambda v: v.update(facts={"0" * 64: 1}), "is not a text"),
        (lambda v: v.update(facts={"0" * 64: ""}), "is empty"),
        (lambda v: v.update(facts={"0" * 64: base64.b64encode(bytes(MAX_NATIVE_FACTS + 1)).decode()}), "is longer"),
    ],
)
def test_impossible_native_facts_of_a_stage_are_refused(change: Callable[[Any], None], message: str) -> None:
    value = json.loads(json.dumps(SAMPLE_FACTS))
    digests = [Digest(digit * 64) for digit in "012"]
    facts = decode_stage_facts(zlib.compress(json.dumps(value).encode()), digests)
    assert facts == {digests[0]: b"x", digests[2]: NOTHING}
    change(value)
    with pytest.raises(MalformedError, match=message):
        decode_stage_facts(zlib.compress(json.dumps(value).encode()), digests)


@given(st.data())
def test_native_facts_with_anything_replaced_are_read_safely(data: st.DataObject) -> None:
    value = json.loads(json.dumps(SAMPLE_FACTS))
    mutate(value, data)
    packed = bytearray(zlib.compress(json.dumps(value).encode()))
    if data.draw(st.booleans()):
        overwrite(packed, data)
    try:
        facts = decode_stage_facts(bytes(packed), [Digest("0" * 64)])
    except MalformedError:
        return
    assert all(0 < len(one) <= MAX_NATIVE_FACTS for one in facts.values())


@given(st.data())
def test_layer_of_an_index_that_cannot_be_native_facts_is_ignored(data: st.DataObject) -> None:
    whole = json.loads(encode_stage_index([make_record()], FactsBlob(Digest.of(b"1"), 5)))
    mutate(whole["layers"], data)
    try:
        index = decode_stage_index(json.dumps(whole).encode())
    except MalformedError:  # no list of descriptors
        return
    assert index.facts is None or 0 < index.facts.size <= 4 << 20
    assert index.records == {make_record().key: make_record()}


@pytest.mark.parametrize("layers", [None, [], [{}], [{"mediaType": 1}]])
def test_index_without_a_usable_layer_has_no_native_facts(layers: object) -> None:
    whole = json.loads(encode_stage_index([make_record()], FactsBlob(Digest.of(b"1"), 5)))
    assert decode_stage_index(json.dumps(whole).encode()).facts == FactsBlob(Digest.of(b"1"), 5)
    assert decode_stage_index(json.dumps({**whole, "layers": layers}).encode()).facts is None
    assert decode_stage_index(encode_stage_index([make_record()])).facts is None
    for malformed in (1, {}, [1], [{"Digest": 1}]):
        with pytest.raises(MalformedError):
            decode_stage_index(json.dumps({**whole, "layers": malformed}).encode())


def test_bombs_in_native_facts_are_refused_in_little_memory() -> None:
    tracemalloc.start()
    try:
        for bomb in (b"0" * (100 << 20), b'{"format":2,"untold":[' + b"[]," * 2_700_000 + b"[]]}", b"[" * (8 << 20)):
            with pytest.raises(MalformedError):
                decode_stage_facts(zlib.compress(bomb), [])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400 << 20


# tags


@given(st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", fullmatch=True) | st.just("s" * 255))
def test_every_stage_has_a_valid_tag_for_its_index(stage: str) -> None:
    tag = stage_index_tag(stage)
    assert Ref(host="a.b", path="c").tagged(tag).tag == tag
    assert is_cache_tag(tag)


def test_long_stage_names_are_hashed_in_tags() -> None:
    assert stage_index_tag("s" * 119) == "cache-of-" + "s" * 119
    assert stage_index_tag("s" * 120) != stage_index_tag("s" * 121)
