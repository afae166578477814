"""Entries of the shared cache: what is written is read again; anything else is nonsense, and nothing worse."""

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

from buildkit.digest import DiffId, Digest, Key
from buildkit.layers.path_prefixes import MOST
from buildkit.layers.tar.member import Compression
from buildkit.native import NOTHING
from buildkit.oci.blob import Blob, LayerResult
from buildkit.oci.reference import Ref
from buildkit.remote.cache_record import (
    EMPTY,
    MOST_NATIVES,
    CacheRecord,
    MalformedRecordError,
    Told,
    decode_listing,
    decode_natives,
    decode_records,
    encode_listing,
    encode_natives,
    encode_record,
    encode_stage_index,
    find_told,
    is_cache_tag,
    record_tag,
    stage_index_tag,
)

ANNOTATION = "io.xoe.buildkit.layers"
WORDS = st.from_regex(r"[a-zäß ._-]{1,8}", fullmatch=True)
PATHS = st.lists(st.from_regex(r"[a-zä ]{1,4}(\.[a-z]{1,3})?", fullmatch=True), min_size=1, max_size=7).map("/".join)
SIZES = st.integers(0, 1 << 50)
BLOBS = st.builds(
    Blob,
    digest=st.binary(max_size=2).map(Digest.of),
    diff_id=st.binary(max_size=2).map(DiffId.of),
    size=SIZES,
    unpacked=SIZES,
    compression=st.sampled_from(Compression),
)
MADE = st.builds(
    LayerResult,
    blobs=st.lists(BLOBS, min_size=1, max_size=3).map(tuple),
    seconds=st.integers(0, 10**9).map(lambda n: n / 1000),
    env=st.lists(st.from_regex(r"[A-Z]{1,4}=[ -~äö\n\t]{0,8}", fullmatch=True), max_size=2).map(tuple),
)
ENTRIES = st.builds(
    CacheRecord,
    key=st.binary(max_size=2).map(Key.of),
    kind=WORDS,
    name=WORDS,
    made=MADE,
    claims=st.lists(PATHS, max_size=4).map(tuple),
)
DIGESTS = st.binary(max_size=1).map(Digest.of)
FACTS = st.dictionaries(DIGESTS, st.just(NOTHING) | st.binary(min_size=1, max_size=9), max_size=6)
CONTENTS = st.lists(st.tuples(PATHS, st.just("0" * 64) | PATHS.map(lambda path: f"-> ../{path}")), max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["", "../x", "\ud800", "\0", "0" * 64, 10**400, -1, 1 << 51, True, "zstd", "a" * 100_000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def entry(**changes: Any) -> CacheRecord:
    blob = Blob(digest=Digest.of(b"1"), diff_id=DiffId.of(b"2"), size=3, unpacked=4, compression=Compression.ZSTD)
    fields: dict[str, Any] = {
        "key": Key.of(b"key"), "kind": "wheels", "name": "deps/numpy",
        "made": LayerResult(blobs=(blob,)), "claims": ("a/b",),
    }  # fmt: skip
    return CacheRecord(**(fields | changes))


def described(manifest: bytes) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(json.loads(manifest)["annotations"][ANNOTATION])))


def redescribe(manifest: bytes, value: Any) -> bytes:
    """The same manifest with another description."""
    return repack(manifest, zlib.compress(json.dumps(value).encode()))


def repack(manifest: bytes, packed: bytes) -> bytes:
    whole = json.loads(manifest)
    whole["annotations"][ANNOTATION] = base64.b64encode(packed).decode()
    return json.dumps(whole).encode()


def decode_safely(manifest: bytes) -> None:
    """It is nonsense, or entries that hold nothing impossible; never another exception."""
    try:
        entries = decode_records(manifest)
    except MalformedRecordError:
        return
    for found in entries.values():
        json.dumps([found.name, found.kind, found.claims, found.made.env], ensure_ascii=False).encode()
        assert not any(ord(letter) < 32 for text in (found.name, found.kind, *found.claims) for letter in text)
        assert not any({"", ".", ".."} & set(path.split("/")) for path in found.claims)
        assert all(0 <= blob.size <= 1 << 50 for blob in found.made.blobs)


# what is written


@given(ENTRIES, CONTENTS)
def test_an_entry_is_read_as_it_was_written(one: CacheRecord, contents: list[tuple[str, str]]) -> None:
    config = encode_listing(contents)
    manifest = encode_record(one, config)
    assert decode_records(manifest) == {one.key: one}
    assert decode_listing(config) == contents
    value = json.loads(manifest)
    assert value["config"]["digest"] == str(Digest.of(config))
    assert value["config"]["size"] == len(config)
    assert [layer["digest"] for layer in value["layers"]] == [str(blob.digest) for blob in one.made.blobs]


@given(st.lists(ENTRIES, max_size=5, unique_by=lambda one: one.key))
def test_a_roster_is_read_as_it_was_written_in_its_order(entries: list[CacheRecord]) -> None:
    manifest = encode_stage_index(entries)
    assert list(decode_records(manifest).items()) == [(one.key, one) for one in entries]
    assert {layer["digest"] for layer in json.loads(manifest)["layers"]} == {str(Digest.of(EMPTY))}


def test_what_is_told_of_native_files_is_read_as_it_was_written() -> None:
    told = entry(natives=(b"facts \0\xff",))
    assert decode_records(encode_record(told, b""))[told.key].natives == told.natives
    assert decode_records(encode_stage_index([told]))[told.key].natives == ()
    assert told == entry(), "or a roster would be written again and again"
    assert "natives" not in described(encode_record(entry(), b""))["layers"][0], "others' bytes stay what they were"


@given(FACTS, st.sets(DIGESTS, max_size=4))
def test_what_a_roster_tells_of_native_files_is_read_as_it_was_written(
    known: dict[Digest, bytes], unknown: set[Digest]
) -> None:
    digests = {*known, *unknown}
    data = encode_natives(known, digests)
    if data is None:
        assert not known
        return
    assert decode_natives(data, digests) == known
    assert data == encode_natives(dict(reversed(known.items())), sorted(digests, key=str)), "in any order"
    told = Told(Digest.of(data), len(data))
    manifest = encode_stage_index([entry()], told)
    assert find_told(manifest) == told
    assert decode_records(manifest) == {entry().key: entry()}, "who does not know of it reads the rest"


def test_layers_without_native_files_change_nothing_of_what_is_told() -> None:
    one, two, three, four = (Digest.of(bytes([n])) for n in range(4))
    known = {one: b"facts", two: NOTHING, three: NOTHING}
    data = encode_natives(known, [one, two])
    assert data == encode_natives(known, [one, three])
    assert data != encode_natives(known, [one, two, four]), "nothing is known of it, which is not the same"
    assert data != encode_natives(known, [two])


def test_nothing_is_told_where_nothing_is_known_or_too_much() -> None:
    digests = [Digest.of(bytes([n])) for n in range(64)]
    assert encode_natives({}, digests) is None
    assert encode_natives({}, []) is None
    assert encode_natives({digest: bytes(MOST_NATIVES) for digest in digests}, digests) is None
    data = encode_natives({digests[0]: b"facts", digests[1]: bytes(MOST_NATIVES + 1)}, digests[:2])
    assert data is not None
    assert decode_natives(data, digests[:2]) == {digests[0]: b"facts"}


def test_the_same_entry_gives_the_same_bytes() -> None:
    config = encode_listing([("a", "0" * 64)])
    assert encode_record(entry(), config) == encode_record(entry(), config)


def test_a_listing_that_is_not_known_is_not_an_empty_one() -> None:
    assert decode_listing(encode_listing([])) == []
    with pytest.raises(MalformedRecordError, match="not shared"):
        decode_listing(encode_listing(None))


def test_a_listing_that_is_too_large_to_be_read_is_not_written() -> None:
    many = [(f"a/{n}", Digest.of(str(n).encode()).hex) for n in range(120_000)]
    config = encode_listing(many)
    assert len(config) < 100
    with pytest.raises(MalformedRecordError, match="not shared"):
        decode_listing(config)
    assert decode_listing(encode_listing(many[:60_000])) == many[:60_000]


def test_a_roster_of_as_many_layers_as_an_image_may_have_is_small_enough() -> None:
    claims = tuple(f"opt/venv/lib/python3.13/site-packages/{n:060}" for n in range(MOST))
    entries = [entry(key=Key.of(str(n).encode()), claims=claims) for n in range(64)]
    assert len(decode_records(encode_stage_index(entries))) == 64


def test_a_roster_that_nobody_could_read_is_not_written() -> None:
    claims = tuple(f"{n:04}{'x' * 16_000}" for n in range(MOST))
    with pytest.raises(MalformedRecordError, match="too large"):
        encode_stage_index([entry(claims=claims)])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a\nb"}, {"name": "\x1b[31m"}, {"name": "\x9b31m"}, {"name": "\u2028"}, {"kind": "\x7f"},
        {"name": "\ud800"}, {"name": "n" * 20_000}, {"claims": ("/a",)}, {"claims": ("a/../b",)}, {"claims": ("..",)},
        {"claims": ("a//b",)}, {"claims": ("a/",)}, {"claims": ("",)}, {"claims": ("./a",)}, {"claims": ("a\0",)},
        {"claims": ("a\nb",)}, {"claims": tuple(str(n) for n in range(MOST + 1))}, {"made": LayerResult(blobs=())},
        {"made": LayerResult(blobs=entry().made.blobs, env=("A=\0",))},
        {"made": LayerResult(blobs=entry().made.blobs, env=("A=\udc80",))},
    ],
    ids=repr,
)  # fmt: skip
def test_an_entry_that_nobody_would_believe_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecordError):
        entry(**changes)


# what is read


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_nonsense(data: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        decode_records(data)
    with pytest.raises(MalformedRecordError):
        decode_listing(data)


@given(VALUES)
def test_any_json_is_nonsense(value: Any) -> None:
    with pytest.raises(MalformedRecordError):
        decode_records(json.dumps(value).encode())


@settings(max_examples=300)
@given(st.data())
def test_any_part_of_a_manifest_may_be_anything(data: st.DataObject) -> None:
    manifest = encode_stage_index([entry(), entry(key=Key.of(b"2"))])
    if data.draw(st.booleans()):
        manifest = encode_record(entry(), b"")
    if data.draw(st.booleans()):
        changed = described(manifest)
        change(changed, data)
        decode_safely(redescribe(manifest, changed))
    else:
        whole = json.loads(manifest)
        change(whole, data)
        decode_safely(json.dumps(whole).encode())


@given(st.data())
def test_a_manifest_may_be_cut_and_overwritten_anywhere(data: st.DataObject) -> None:
    manifest = bytearray(encode_record(entry(), b""))
    at = data.draw(st.integers(0, len(manifest)))
    manifest[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    decode_safely(bytes(manifest))


@given(st.data())
def test_a_listing_may_be_cut_and_overwritten_anywhere(data: st.DataObject) -> None:
    contents = [("a/b", "0" * 64), ("c", "-> ../d")]
    plain = bytearray(zlib.decompress(encode_listing(contents)))
    at = data.draw(st.integers(0, len(plain)))
    plain[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    try:
        found = decode_listing(zlib.compress(plain))
    except MalformedRecordError:
        return
    assert not any({"", ".", ".."} & set(path.split("/")) for path, _ in found)
    json.dumps(found, ensure_ascii=False).encode()


def change(value: Any, data: st.DataObject) -> None:
    """Put anything into some place of a JSON value, or take it away."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        place = data.draw(st.sampled_from(places))
        inner = value[place]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            value = inner
            continue
        if data.draw(st.booleans()):
            value[place] = data.draw(VALUES)
        else:
            del value[place]
        return


@pytest.mark.parametrize(
    ("mutate", "why"),
    [
        (lambda v: v.update(artifactType="application/vnd.other"), "no entry"),
        (lambda v: v.pop("artifactType"), "KeyError"),
        (lambda v: v["annotations"].clear(), "KeyError"),
        (lambda v: v["annotations"].update({ANNOTATION: "§"}), "ValueError"),
        (lambda v: v["annotations"].update({ANNOTATION: ""}), "cut off"),
        (lambda v: v["layers"][0].update(size=5), "not those that it describes"),
        (lambda v: v["layers"].append(v["layers"][0]), "not those that it describes"),
        (lambda v: v["layers"].clear(), "not those that it describes"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(mutate: Callable[[Any], None], why: str) -> None:
    value = json.loads(encode_record(entry(), b""))
    mutate(value)
    with pytest.raises(MalformedRecordError, match=why):
        decode_records(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("mutate", "why"),
    [
        (lambda v: v.update(format=2), "another version"),
        (lambda v: v.pop("format"), "KeyError"),
        (lambda v: v.update(layers={}), "list is missing"),
        (lambda v: v["layers"][0].update(key="0" * 63), "ValueError"),
        (lambda v: v["layers"][0].update(key=["0" * 64]), "TypeError"),
        (lambda v: v["layers"][0].update(seconds="nan"), "number"),
        (lambda v: v["layers"][0].update(seconds=float("nan")), "number"),
        (lambda v: v["layers"][0].update(seconds=float("inf")), "number"),
        (lambda v: v["layers"][0].update(seconds=-1), "number"),
        (lambda v: v["layers"][0].update(seconds=10**400), "number"),
        (lambda v: v["layers"][0].update(claims="abc"), "list is missing"),
        (lambda v: v["layers"][0].update(claims=[1]), "text is missing"),
        (lambda v: v["layers"][0].update(claims=["../../etc/passwd"]), "leads out"),
        (lambda v: v["layers"][0].update(claims=["/etc/passwd"]), "leads out"),
        (lambda v: v["layers"][0].update(blobs=[]), "no blob"),
        (lambda v: v["layers"][0].update(natives=["", "eA=="]), "not of which blob"),
        (lambda v: v["layers"][0].update(natives=["?"]), "Error"),
        (lambda v: v["layers"][0].update(natives="eA=="), "list is missing"),
        (lambda v: v["layers"][0].update(natives=[base64.b64encode(bytes(300_000)).decode()]), "too much"),
        (lambda v: v["layers"][0].update(blobs=["abcde"]), "list is missing"),
        (lambda v: v["layers"][0]["blobs"][0].append(1), "TypeError"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(0, "../../../x"), "ValueError"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(2, -1), "impossible size"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(2, True), "impossible size"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(3, 1 << 60), "impossible size"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(3, 1.5), "impossible size"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(4, "brotli"), "ValueError"),
        (lambda v: v["layers"][0]["blobs"][0].__setitem__(4, {}), "Error"),
    ],
)
def test_a_description_that_is_impossible_is_refused(mutate: Callable[[Any], None], why: str) -> None:
    manifest = encode_record(entry(), b"")
    value = described(manifest)
    mutate(value)
    with pytest.raises(MalformedRecordError, match=why):
        decode_records(redescribe(manifest, value))


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[]", b'["a"]', b'["a",1]', b'["a","b","c"]', b'["a","b"]', b'{"a":"b"}', b'["../a","-> b"]',
     b'["/a","-> b"]', b'["a\\u0000","-> b"]', b'["a","-> \\ud800"]', b'["a\\nb","-> b"]', b"[" * 100_000,
     b'["' + b"a" * 20_000 + b'","-> b"]', b'["a","' + b"0" * 63 + b'"]', b"[" * 300_000],
)  # fmt: skip
def test_a_listing_with_an_impossible_line_is_refused(line: bytes) -> None:
    good = b'["b","-> c"]\n'
    assert decode_listing(zlib.compress(good)) == [("b", "-> c")]
    with pytest.raises(MalformedRecordError):
        decode_listing(zlib.compress(good + line + b"\n"))


NATIVES = {"format": 1, "facts": {"0" * 64: "eA=="}, "untold": ["1" * 64]}


@pytest.mark.parametrize(
    ("mutate", "why"),
    [
        (lambda v: v.update(format=2), "another version"),
        (lambda v: v.pop("format"), "KeyError"),
        (lambda v: v.pop("untold"), "KeyError"),
        (lambda v: v.update(untold="1" * 64), "list is missing"),
        (lambda v: v.update(untold=["../x"]), "ValueError"),
        (lambda v: v.update(untold=[1]), "TypeError"),
        (lambda v: v.update(facts=[]), "AttributeError"),
        (lambda v: v.update(facts={"0" * 63: "eA=="}), "ValueError"),
        (lambda v: v.update(facts={"0" * 64: "?"}), "Error"),
        (lambda v: v.update(facts={"0" * 64: 1}), "text is missing"),
        (lambda v: v.update(facts={"0" * 64: ""}), "or nothing"),
        (lambda v: v.update(facts={"0" * 64: base64.b64encode(bytes(MOST_NATIVES + 1)).decode()}), "too much"),
    ],
)
def test_what_is_told_of_native_files_and_is_impossible_is_refused(mutate: Callable[[Any], None], why: str) -> None:
    value = json.loads(json.dumps(NATIVES))
    digests = [Digest(digit * 64) for digit in "012"]
    told = decode_natives(zlib.compress(json.dumps(value).encode()), digests)
    assert told == {digests[0]: b"x", digests[2]: NOTHING}
    mutate(value)
    with pytest.raises(MalformedRecordError, match=why):
        decode_natives(zlib.compress(json.dumps(value).encode()), digests)


@given(st.data())
def test_any_part_of_what_is_told_of_native_files_may_be_anything(data: st.DataObject) -> None:
    value = json.loads(json.dumps(NATIVES))
    change(value, data)
    packed = bytearray(zlib.compress(json.dumps(value).encode()))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(packed)))
        packed[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    try:
        told = decode_natives(bytes(packed), [Digest("0" * 64)])
    except MalformedRecordError:
        return
    assert all(0 < len(facts) <= MOST_NATIVES for facts in told.values())


@given(st.data())
def test_the_layer_of_a_roster_may_be_anything(data: st.DataObject) -> None:
    whole = json.loads(encode_stage_index([entry()], Told(Digest.of(b"1"), 5)))
    change(whole["layers"], data)
    told = find_told(json.dumps(whole).encode())
    assert told is None or 0 < told.size <= 4 << 20


@pytest.mark.parametrize("data", [b"", b"[]", b'{"layers":1}', b"[" * 100_000, b"\xff", encode_stage_index([entry()])])
def test_a_roster_may_name_nothing_that_tells_of_native_files(data: bytes) -> None:
    assert find_told(data) is None


def test_bombs_are_small_explosions() -> None:
    manifest = encode_record(entry(), b"")
    huge = 100 << 20
    bombs = {
        "zeros": zlib.compress(b"0" * huge),
        "lists": zlib.compress(b'{"format":1,"layers":[' + b"[]," * ((8 << 20) // 3 - 20) + b"[]]}"),
        "nested": zlib.compress(b"[" * (8 << 20)),
    }
    listings = {
        "zeros": bombs["zeros"],
        "lines": zlib.compress(b"\n" * huge),
        "returns": zlib.compress(b"\r" * (60 << 20) + b"\n"),
        "short": zlib.compress(b'["a","-> "]\n' * 600_000),
    }
    tracemalloc.start()
    try:
        for bomb in bombs.values():
            with pytest.raises(MalformedRecordError):
                decode_records(repack(manifest, bomb))
            with pytest.raises(MalformedRecordError):
                decode_natives(bomb, [])
        with pytest.raises(MalformedRecordError):
            decode_records(b"[" * (4 << 20))
        with pytest.raises(MalformedRecordError):
            decode_records(b"9" * (4 << 20))
        for bomb in listings.values():
            with pytest.raises(MalformedRecordError):
                decode_listing(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300 << 20


# tags


@given(st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", fullmatch=True) | st.just("s" * 255))
def test_every_stage_has_a_tag_for_its_roster(stage: str) -> None:
    tag = stage_index_tag(stage)
    assert Ref(host="a.b", path="c").tagged(tag).tag == tag
    assert is_cache_tag(tag)


def test_tags_of_the_cache_are_told_from_those_of_images() -> None:
    assert is_cache_tag(record_tag(Key.of(b"")))
    assert stage_index_tag("s" * 119) == "cache-of-" + "s" * 119
    assert stage_index_tag("s" * 120) != stage_index_tag("s" * 121)
    for tag in ("latest", "cache", "cache-1", "cache-" + "0" * 63, "xcache-of-app"):
        assert not is_cache_tag(tag)
