"""Stage indexes: one manifest for all layers of a stage's last image, so that one request answers for most keys.

A *stage index* (tag ``cache-of-STAGE``) describes the layers of the image and of what compiles for it as their records
do, but for their native facts (`cache_record`). Its only layer is a blob of the native facts of all these layers, or
the empty blob where none are known. It is zlib of JSON: ``facts`` by the digest of the blob, and ``untold``, the
digests of those whose facts are not known. Blobs in neither have no native files, so the blob of facts stays the same
where only other layers change. Pure; the documents that are read are distrusted.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from buildkit.digest import Digest, Key, canonical_json
from buildkit.hostile_json import JsonValue, MalformedError, inflate_limited, parse_json
from buildkit.native import NOTHING
from buildkit.remote.cache_manifest import (
    EMPTY,
    EMPTY_TYPE,
    FORMAT,
    MAX_MANIFEST,
    MAX_UNPACKED,
    check_format,
    decode_manifest,
    descriptor,
    encode_manifest,
)
from buildkit.remote.cache_record import MAX_NATIVE_FACTS, CacheRecord, describe_record, read_record

_INDEX = "application/vnd.xoe.buildkit.roster.v1+json"
_FACTS = "application/vnd.xoe.buildkit.natives.v1+zlib"
_FACTS_NAME = "the native facts"
_MAX_STAGE = 128 - len("cache-of-")  # a tag has up to 128 characters
_MAX_BLOBS = 100_000


@dataclass(frozen=True, slots=True)
class FactsBlob:
    """The name of the blob of native facts that a stage index refers to."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageIndex:
    """The records of a stage's layers, without native facts, and the blob that has these, if there is one."""

    records: Mapping[Key, CacheRecord] = field(default_factory=dict)
    facts: FactsBlob | None = None


def stage_index_tag(stage: str, arch: str = "") -> str:
    """Return the tag of a stage's index; with ``arch`` (`Target.lock_arch`), of its image for that processor."""
    stage = f"{stage}__{arch}" if arch else stage  # no stage has such a name
    fits = len(stage) <= _MAX_STAGE
    return f"cache-of-{stage if fits else Digest.of(stage.encode()).hex}"


def encode_stage_index(records: Iterable[CacheRecord], facts: FactsBlob | None = None) -> bytes:
    """Return the manifest of a stage index; its config is the empty blob. Raises MalformedError if it is too large."""
    empty = descriptor(EMPTY_TYPE, EMPTY)
    layer = {"mediaType": _FACTS, "digest": str(facts.digest), "size": facts.size} if facts else empty
    return encode_manifest(_INDEX, empty, [layer], map(describe_record, records))


def decode_stage_index(manifest: bytes) -> StageIndex:
    """Read the manifest of a stage index; raises MalformedError. A blob of facts that cannot be one is ignored."""
    value, described = decode_manifest(manifest, _INDEX, "the stage index")
    records = map(read_record, described)
    return StageIndex(records={record.key: record for record in records}, facts=_find_facts(value))


def encode_stage_facts(known: Mapping[Digest, bytes], digests: Iterable[Digest]) -> bytes | None:
    """Return the blob of native facts of ``digests``; None where none of them is ``known``, or they are too large."""
    listed = {digest.hex: known.get(digest, b"") for digest in digests}
    listed = {name: data if len(data) <= MAX_NATIVE_FACTS else b"" for name, data in listed.items()}
    facts = {name: base64.b64encode(data).decode() for name, data in listed.items() if data not in (b"", NOTHING)}
    unknown = sorted(name for name, data in listed.items() if not data)
    text = canonical_json({"format": FORMAT, "facts": facts, "untold": unknown}).encode()
    packed = zlib.compress(text, 9)
    fits = len(text) <= MAX_UNPACKED and len(packed) <= MAX_MANIFEST
    return packed if fits and len(unknown) < len(listed) else None


def decode_stage_facts(packed: bytes, digests: Iterable[Digest]) -> dict[Digest, bytes]:
    """Return the native facts of those of ``digests`` whose facts are known; raises MalformedError."""
    data = inflate_limited(packed, limit=MAX_UNPACKED, what=_FACTS_NAME)
    value = parse_json(data, limit=MAX_UNPACKED, what=_FACTS_NAME)
    check_format(value, _FACTS_NAME)
    unknown = {item.parsed(Digest, "a digest") for item in value.member("untold").items(_MAX_BLOBS)}
    facts = dict(_read_facts(name, item) for name, item in value.member("facts").members(_MAX_BLOBS).items())
    return {digest: facts.get(digest, NOTHING) for digest in digests if digest not in unknown}


def _read_facts(name: str, value: JsonValue) -> tuple[Digest, bytes]:
    try:
        digest = Digest(name)
    except ValueError as error:
        raise value.error("is not named by a digest") from error
    facts = value.base64(MAX_NATIVE_FACTS)
    if not facts:
        raise value.error("is empty")
    return digest, facts


def _find_facts(manifest: JsonValue) -> FactsBlob | None:
    with suppress(MalformedError):
        (layer,) = manifest.member("layers").row(1)
        if layer.member("mediaType").text() == _FACTS:
            digest = layer.member("digest").parsed(Digest.parse, "a digest")
            return FactsBlob(digest, layer.member("size").integer(1, MAX_MANIFEST))
    return None
