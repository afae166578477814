"""Cache records: a record is read as it was written, and any other document is refused as malformed."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.digest import Digest, Key
from buildkit.hostile_json import MalformedError
from buildkit.layers.path_prefixes import MAX_PREFIXES
from buildkit.oci.blob import LayerResult
from buildkit.remote.cache_record import CacheRecord, decode_record, encode_record, is_cache_tag, record_tag
from buildkit.remote.listing import decode_listing, encode_listing
from buildkit.remote.stage_index import decode_stage_index, encode_stage_index, stage_index_tag
from tests.remote.records import (
    ANNOTATION,
    CONTENTS,
    RECORDS,
    VALUES,
    decode_safely,
    make_record,
    mutate,
    overwrite,
    read_description,
    replace_description,
    replace_packed,
)


@given(RECORDS, CONTENTS)
def test_record_is_read_as_it_was_written(record: CacheRecord, contents: list[tuple[str, str]]) -> None:
    listing = encode_listing(contents)
    manifest = encode_record(record, listing)
    assert decode_record(manifest) == record
    assert decode_listing(listing) == contents
    value = json.loads(manifest)
    assert value["config"]["digest"] == str(Digest.of(listing))
    assert value["config"]["size"] == len(listing)
    assert [layer["digest"] for layer in value["layers"]] == [str(blob.digest) for blob in record.result.blobs]


def test_native_facts_of_a_record_are_read_as_they_were_written() -> None:
    record = make_record(native_facts=(b"facts \0\xff",))
    assert decode_record(encode_record(record, b"")).native_facts == record.native_facts
    assert record == make_record(), "facts do not count, or an index would be replaced by an equal one every time"
    assert "natives" not in read_description(encode_record(make_record(), b""))["layers"][0], (
        "older bytes stay the same"
    )


def test_equal_records_give_equal_bytes() -> None:
    listing = encode_listing([("a", "0" * 64)])
    assert encode_record(make_record(), listing) == encode_record(make_record(), listing)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a\nb"}, {"name": "\x1b[31m"}, {"name": "\x9b31m"}, {"name": "\u2028"}, {"kind": "\x7f"},
        {"name": "\ud800"}, {"name": "n" * 20_000}, {"path_prefixes": ("/a",)}, {"path_prefixes": ("a/../b",)},
        {"path_prefixes": ("..",)}, {"path_prefixes": ("a//b",)}, {"path_prefixes": ("a//",)}, {"path_prefixes": ("",)},
        {"path_prefixes": ("./a",)}, {"path_prefixes": ("a\0",)}, {"path_prefixes": ("a\nb",)},
        {"path_prefixes": tuple(str(n) for n in range(MAX_PREFIXES + 1))}, {"result": LayerResult(blobs=())},
        {"result": LayerResult(blobs=make_record().result.blobs, config='{"Env":["A=\\u0000"]}')},
        {"result": LayerResult(blobs=make_record().result.blobs, config='{"Env":["A=\\udc80"]}')}, {
            "result": LayerResult(blobs=make_record().result.blobs, config='{"OnBuild":["RUN x"]}')
        },
    ],
    ids=repr,
)  # fmt: skip
def test_record_that_no_reader_would_accept_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        make_record(**changes)


# malformed documents


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for decode in (decode_record, decode_stage_index, decode_listing):
        with pytest.raises(MalformedError):
            decode(data)


@given(VALUES)
def test_arbitrary_json_is_refused(value: Any) -> None:
    for decode in (decode_record, decode_stage_index):
        with pytest.raises(MalformedError):
            decode(json.dumps(value).encode())


@settings(max_examples=300)
@given(st.data())
def test_manifest_with_any_value_replaced_is_read_safely(data: st.DataObject) -> None:
    manifest = encode_stage_index([make_record(), make_record(key=Key.of(b"2"))])
    if data.draw(st.booleans()):
        manifest = encode_record(make_record(), b"")
    if data.draw(st.booleans()):
        description = read_description(manifest)
        mutate(description, data)
        decode_safely(replace_description(manifest, description))
    else:
        whole = json.loads(manifest)
        mutate(whole, data)
        decode_safely(json.dumps(whole).encode())


@given(st.data())
def test_manifest_with_any_bytes_overwritten_is_read_safely(data: st.DataObject) -> None:
    manifest = bytearray(encode_record(make_record(), b""))
    overwrite(manifest, data)
    decode_safely(bytes(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(artifactType="application/vnd.other"), "another artifact type"),
        (lambda v: v.pop("artifactType"), "has no `artifactType`"),
        (lambda v: v["annotations"].clear(), "annotations has no `io.xoe.buildkit.layers`"),
        (lambda v: v["annotations"].update({ANNOTATION: "§"}), "annotations.io.xoe.buildkit.layers is not base64"),
        (lambda v: v["annotations"].update({ANNOTATION: ""}), "cut off"),
        (lambda v: v["layers"][0].update(size=5), "not those that it describes"),
        (lambda v: v["layers"].append(v["layers"][0]), "not those that it describes"),
        (lambda v: v["layers"].clear(), "not those that it describes"),
    ],
)
def test_manifest_that_contradicts_its_description_is_refused(change: Callable[[Any], None], message: str) -> None:
    value = json.loads(encode_record(make_record(), b""))
    change(value)
    with pytest.raises(MalformedError, match=message):
        decode_record(json.dumps(value).encode())


def test_manifest_of_the_other_kind_is_refused() -> None:
    with pytest.raises(MalformedError, match="the record has another artifact type"):
        decode_record(encode_stage_index([make_record()]))
    with pytest.raises(MalformedError, match="the stage index has another artifact type"):
        decode_stage_index(encode_record(make_record(), b""))


@pytest.mark.parametrize("count", [0, 2])
def test_record_that_does_not_describe_exactly_one_layer_is_refused(count: int) -> None:
    manifest = encode_record(make_record(), b"")
    value = read_description(manifest)
    with pytest.raises(MalformedError, match="exactly one layer"):
        decode_record(replace_description(manifest, {**value, "layers": value["layers"] * count}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format=1), "another version"),
        (lambda v: v.update(format=True), "format is not an integer"),
        (lambda v: v.pop("format"), "has no `format`"),
        (lambda v: v.update(layers={}), "layers is not a list"),
        (lambda v: v["layers"][0].update(key="0" * 63), r"layers\[0\].key is not a key"),
        (lambda v: v["layers"][0].update(key=["0" * 64]), r"layers\[0\].key is not a text"),
        (lambda v: v["layers"][0].update(seconds="nan"), "seconds is not a number"),
        (lambda v: v["layers"][0].update(seconds=True), "seconds is not a number"),
        (lambda v: v["layers"][0].update(seconds=float("nan")), "not JSON"),
        (lambda v: v["layers"][0].update(seconds=float("inf")), "not JSON"),
        (lambda v: v["layers"][0].update(seconds=-1), "seconds is not a number"),
        (lambda v: v["layers"][0].update(seconds=10**400), "seconds is not a number"),
        (lambda v: v["layers"][0].update(claims="abc"), "claims is not a list"),
        (lambda v: v["layers"][0].update(claims=[1]), r"claims\[0\] is not a text"),
        (lambda v: v["layers"][0].update(claims=["../../etc/passwd"]), "leads out"),
        (lambda v: v["layers"][0].update(claims=["/etc/passwd"]), "leads out"),
        (lambda v: v["layers"][0].update(claims=["a"] * (MAX_PREFIXES + 1)), "more than 1000 items"),
        (lambda v: v["layers"][0].update(blobs=[]), "no blob"),
        (lambda v: v["layers"][0].update(natives=["", "eA=="]), "do not match the blobs"),
        (lambda v: v["layers"][0].update(natives=["?"]), r"natives\[0\] is not base64"),
        (lambda v: v["layers"][0].update(natives="eA=="), "natives is not a list"),
        (lambda v: v["layers"][0].update(natives=None), "natives is not a list"),
        (lambda v: v["layers"][0].update(natives=[base64.b64encode(bytes(300_000)).decode()]), "natives.0. is longer"),
        (lambda v: v["layers"][0].update(blobs=["abcde"]), r"blobs\[0\] is not a list"),
        (lambda v: v["layers"][0]["blobs"][0].append(1), r"blobs\[0\]\[5\] is not a text"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(0, "../../../x"), r"blobs\[0\]\[0\] is not a digest"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(2, -1), r"blobs\[0\]\[2\] is not between"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(2, True), r"blobs\[0\]\[2\] is not an integer"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(3, 1 << 60), r"blobs\[0\]\[3\] is not between"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(3, 1.5), r"blobs\[0\]\[3\] is not an integer"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(4, "brotli"), r"blobs\[0\]\[4\] is not a compression"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(4, {}), r"blobs\[0\]\[4\] is not a text"),
    ],
)
def test_impossible_description_is_refused(change: Callable[[Any], None], message: str) -> None:
    manifest = encode_record(make_record(), b"")
    value = read_description(manifest)
    change(value)
    with pytest.raises(MalformedError, match=message):
        decode_record(replace_description(manifest, value))


def test_compression_bombs_are_refused_in_little_memory() -> None:
    manifest, index = encode_record(make_record(), b""), encode_stage_index([make_record()])
    bombs = {
        "zeros": zlib.compress(b"0" * (100 << 20)),
        "lists": zlib.compress(b'{"format":2,"layers":[' + b"[]," * ((8 << 20) // 3 - 20) + b"[]]}"),
        "nested": zlib.compress(b"[" * (8 << 20)),
    }
    tracemalloc.start()
    try:
        for bomb in bombs.values():
            with pytest.raises(MalformedError):
                decode_record(replace_packed(manifest, bomb))
            with pytest.raises(MalformedError):
                decode_stage_index(replace_packed(index, bomb))
        for decode in (decode_record, decode_stage_index):
            with pytest.raises(MalformedError):
                decode(b"[" * (4 << 20))
            with pytest.raises(MalformedError):
                decode(b"9" * (4 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300 << 20


def test_cache_tags_differ_from_image_tags() -> None:
    assert is_cache_tag(record_tag(Key.of(b"")))
    assert is_cache_tag(stage_index_tag("app"))
    for tag in ("latest", "cache", "cache-1", "cache-" + "0" * 63, "xcache-of-app"):
        assert not is_cache_tag(tag)
