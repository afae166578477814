"""Samples, strategies and mutations of the documents of a remote cache."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from hypothesis import strategies as st

from buildkit.digest import DiffId, Digest, FileHash, Key, canonical_json
from buildkit.hostile_json import MalformedError
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.toc import Toc, TocPart
from buildkit.native import NOTHING
from buildkit.oci.blob import Blob, LayerResult
from buildkit.remote.cache_record import BuilderScan, CacheRecord, decode_record
from buildkit.remote.stage_index import decode_stage_index

ANNOTATION = "io.xoe.buildkit.layers"
WORDS = st.from_regex(r"[a-zäß ._-]{1,8}", fullmatch=True)
PATHS = st.lists(st.from_regex(r"[a-zä ]{1,4}(\.[a-z]{1,3})?", fullmatch=True), min_size=1, max_size=7).map("/".join)
SIZES = st.integers(0, 1 << 50)
PARTS = st.tuples(SIZES, SIZES, SIZES).map(lambda numbers: TocPart(*numbers))
BLOBS = st.builds(
    Blob,
    digest=st.binary(max_size=2).map(Digest.of),
    diff_id=st.binary(max_size=2).map(DiffId.of),
    size=SIZES,
    unpacked=SIZES,
    compression=st.sampled_from(Compression),
    toc=st.none() | st.builds(Toc, digest=st.binary(max_size=2).map(Digest.of), table=PARTS, tar_split=PARTS),
)
RESULTS = st.builds(
    LayerResult,
    blobs=st.lists(BLOBS, min_size=1, max_size=3).map(tuple),
    seconds=st.integers(0, 10**9).map(lambda n: n / 1000),
    config=st.lists(st.from_regex(r"[A-Z]{1,4}=[ -~äö\n\t]{0,8}", fullmatch=True), max_size=2).map(
        lambda lines: canonical_json({"Env": lines} if lines else {})
    ),
)
SCANS = st.builds(
    BuilderScan,
    sha256=st.binary(max_size=2).map(FileHash.of),
    rules=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    formats=st.lists(WORDS, max_size=2).map(tuple),
    unknown=st.booleans(),
)
RECORDS = st.builds(
    CacheRecord,
    key=st.binary(max_size=2).map(Key.of),
    kind=WORDS,
    name=WORDS,
    result=RESULTS,
    path_prefixes=st.lists(PATHS, max_size=4).map(tuple),
    scans=st.lists(SCANS, max_size=3).map(tuple),
)
DIGESTS = st.binary(max_size=1).map(Digest.of)
FACTS = st.dictionaries(DIGESTS, st.just(NOTHING) | st.binary(min_size=1, max_size=9), max_size=6)
CONTENTS = st.lists(st.tuples(PATHS, st.just("0" * 64) | PATHS.map(lambda path: f"-> ../{path}")), max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["", "../x", "\ud800", "\0", "0" * 64, 10**400, -1, 1 << 51, True, "zstd", "a" * 100_000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def make_record(**changes: Any) -> CacheRecord:
    blob = Blob(digest=Digest.of(b"1"), diff_id=DiffId.of(b"2"), size=3, unpacked=4, compression=Compression.ZSTD)
    fields: dict[str, Any] = {
        "key": Key.of(b"key"), "kind": "wheels", "name": "deps/numpy",
        "result": LayerResult(blobs=(blob,)), "path_prefixes": ("a/b",),
    }  # fmt: skip
    return CacheRecord(**(fields | changes))


def read_description(manifest: bytes) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(json.loads(manifest)["annotations"][ANNOTATION])))


def replace_description(manifest: bytes, value: Any) -> bytes:
    """The same manifest with another description."""
    return replace_packed(manifest, zlib.compress(json.dumps(value).encode()))


def replace_packed(manifest: bytes, packed: bytes) -> bytes:
    """The same manifest with other bytes in place of its compressed description."""
    whole = json.loads(manifest)
    whole["annotations"][ANNOTATION] = base64.b64encode(packed).decode()
    return json.dumps(whole).encode()


def decode_safely(manifest: bytes) -> None:
    """Decode as both kinds: each raises MalformedError, or returns records that hold nothing impossible."""
    for decode in (lambda data: [decode_record(data)], lambda data: decode_stage_index(data).records.values()):
        try:
            records = list(decode(manifest))
        except MalformedError:
            continue
        for found in records:
            json.dumps([found.name, found.kind, found.path_prefixes, found.result.config], ensure_ascii=False).encode()
            told = (text for scan in found.scans for text in (scan.rules, *scan.formats))
            texts = (found.name, found.kind, *found.path_prefixes, *told)
            assert not any(ord(letter) < 32 for text in texts for letter in text)
            assert not any({"", ".", ".."} & set(path.split("/")) for path in found.path_prefixes)
            assert all(0 <= blob.size <= 1 << 50 for blob in found.result.blobs)


def mutate(value: Any, data: st.DataObject) -> None:
    """Replace or delete a value somewhere in a JSON document."""
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


def overwrite(document: bytearray, data: st.DataObject) -> None:
    """Replace a few bytes somewhere."""
    at = data.draw(st.integers(0, len(document)))
    document[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
