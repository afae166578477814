"""Cache records: the manifests of the remote cache that map a recipe's key to the layer built from it.

A *record* (tag ``cache-KEY``) is an OCI artifact manifest (`cache_manifest`). Its layers are the blobs of the layer
with that key, its config is the listing of the layer's paths (`listing`). Pure; the documents that are read are
distrusted.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from buildkit.digest import DiffId, Digest, FileHash, Key, canonical_json
from buildkit.hostile_json import JsonValue, MalformedError
from buildkit.layers.path_prefixes import MAX_PREFIXES
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.toc import Toc
from buildkit.oci.blob import Blob, LayerResult
from buildkit.oci.image import OCI_LAYER
from buildkit.oci.run_config import read_run_config
from buildkit.remote.cache_manifest import decode_manifest, descriptor, encode_manifest
from buildkit.remote.listing import LISTING_TYPE
from buildkit.remote.text_checks import check_name, check_path

MAX_NATIVE_FACTS = 256 << 10
"""Bytes of a record's native facts; those of a CUDA image of three thousand libraries are a quarter of that."""
MAX_SCANS = 2000
"""Scans of a record; a model of more files is scanned again where its layer is reused."""
_RECORD = "application/vnd.xoe.buildkit.entry.v1+json"
_MAX_SIZE = 1 << 50
_MAX_BLOBS = 1000
_MAX_SECONDS = 999_999_999
_MAX_FORMATS = 100
_TAG = re.compile(r"cache-(?:[0-9a-f]{64}|of-.*)")


class BuilderScan(NamedTuple):
    """A scan by a layer's builder that found nothing in a model file; ``unknown``: it is of no known format."""

    sha256: FileHash
    rules: str
    formats: tuple[str, ...]
    unknown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRecord:
    """A layer as a registry describes it: the result of building its recipe, and the path prefixes that it owns.

    ``native_facts`` are the facts of each blob's native files (`native.facts.encode_facts`), empty where they are not
    known. A stage index keeps them in a blob of its own, because they would be most of it and few builds read them.
    ``scans`` are those of a model's files, as far as they found nothing.
    Raises MalformedError for values that no reader would accept.
    """

    key: Key
    kind: str
    name: str
    result: LayerResult
    path_prefixes: tuple[str, ...]
    native_facts: tuple[bytes, ...] = field(default=(), compare=False)
    scans: tuple[BuilderScan, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.kind)
        check_name(self.name)
        for path in self.path_prefixes:
            check_path(path.removesuffix("/"))  # an empty folder of a root ends in one
        config = JsonValue(json.loads(self.result.config), what="the config")
        if read_run_config(config) != config.raw:
            raise MalformedError("the config has members that no image inherits")
        if len(self.path_prefixes) > MAX_PREFIXES:
            raise MalformedError(f"there are more than {MAX_PREFIXES} path prefixes")
        if not self.result.blobs:
            raise MalformedError("there is no blob")
        if self.native_facts and len(self.native_facts) != len(self.result.blobs):
            raise MalformedError("the native facts do not match the blobs")
        if sum(map(len, self.native_facts)) > MAX_NATIVE_FACTS:
            raise MalformedError("the native facts are too large")
        for scan in self.scans:
            for text in (scan.rules, *scan.formats):
                check_name(text)


def record_tag(key: Key) -> str:
    """Return the tag of a key's record."""
    return f"cache-{key.hex}"


def is_cache_tag(tag: str) -> bool:
    """Return whether a tag belongs to the cache, of a record or a stage index, and so cannot be an image's."""
    return bool(_TAG.fullmatch(tag))


def encode_record(record: CacheRecord, listing: bytes) -> bytes:
    """Return the manifest of a record whose config is ``listing``; raises MalformedError if it is too large."""
    described = describe_record(record)
    if any(record.native_facts):
        described["natives"] = [base64.b64encode(facts).decode() for facts in record.native_facts]
    return encode_manifest(_RECORD, descriptor(LISTING_TYPE, listing), _layers(record), [described])


def decode_record(manifest: bytes) -> CacheRecord:
    """Read the manifest of a record; raises MalformedError."""
    value, described = decode_manifest(manifest, _RECORD, "the record")
    if len(described) != 1:
        raise MalformedError("the record does not describe exactly one layer")
    record = read_record(described[0])
    if value.member("layers").raw != _layers(record):
        raise MalformedError("the record's layers are not those that it describes")
    return record


def describe_record(record: CacheRecord) -> dict[str, Any]:
    """Return the description of a layer, without its native facts."""
    result = record.result
    scans = [[scan.sha256.hex, scan.rules, list(scan.formats), int(scan.unknown)] for scan in record.scans]
    return {
        "key": record.key.hex,
        "kind": record.kind,
        "name": record.name,
        "seconds": round(result.seconds, 3),
        "config": json.loads(result.config),
        "claims": list(record.path_prefixes),
        "blobs": [blob.to_row() for blob in result.blobs],
        **({"scans": scans} if scans else {}),
    }


def read_record(value: JsonValue) -> CacheRecord:
    """Read the description of a layer; raises MalformedError."""
    facts = value.member("natives").items(_MAX_BLOBS) if value.has("natives") else ()
    result = LayerResult(
        blobs=tuple(map(_read_blob, value.member("blobs").items(_MAX_BLOBS))),
        seconds=value.member("seconds").number(0, _MAX_SECONDS),
        config=canonical_json(read_run_config(value.member("config"))),
    )
    return CacheRecord(
        key=value.member("key").parsed(Key, "a key"),
        kind=value.member("kind").text(),
        name=value.member("name").text(),
        result=result,
        path_prefixes=value.member("claims").texts(MAX_PREFIXES),
        native_facts=tuple(item.base64(MAX_NATIVE_FACTS) for item in facts),
        scans=tuple(map(_read_scan, value.member("scans").items(MAX_SCANS))) if value.has("scans") else (),
    )


def _layers(record: CacheRecord) -> list[dict[str, Any]]:
    return [
        {"mediaType": OCI_LAYER[blob.compression], "digest": str(blob.digest), "size": blob.size}
        for blob in record.result.blobs
    ]


def _read_scan(value: JsonValue) -> BuilderScan:
    sha256, rules, formats, unknown = value.row(4)
    return BuilderScan(
        sha256=sha256.parsed(FileHash, "a SHA-256"),
        rules=rules.text(),
        formats=formats.texts(_MAX_FORMATS),
        unknown=bool(unknown.integer(0, 1)),
    )


def _read_blob(value: JsonValue) -> Blob:
    parts = value.items(6)
    has_toc = len(parts) == 6
    digest, diff_id, size, unpacked, compression, *toc = value.row(6 if has_toc else 5)
    return Blob(
        digest=digest.parsed(Digest, "a digest"),
        diff_id=diff_id.parsed(DiffId, "a diff_id"),
        size=size.integer(0, _MAX_SIZE),
        unpacked=unpacked.integer(0, _MAX_SIZE),
        compression=compression.parsed(Compression, "a compression"),
        toc=toc[0].parsed(Toc.parse, "a table of contents") if toc else None,
    )
