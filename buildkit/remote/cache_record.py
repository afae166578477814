"""Entries of the shared cache: manifests in a registry that say what a key came to. Pure; what is read is distrusted.

An *entry* (tag ``cache-KEY``) is an OCI artifact manifest whose layers are the blobs of one key, and whose config
is the listing of the paths that they own. A *roster* (tag ``cache-of-STAGE``) describes all layers of a stage's
last image, and of what it is built with, in one manifest, so that one request answers for most keys. Both
carry the same description of a layer as an annotation: base64 of zlib of JSON (image specification, manifest.md,
"guidelines for artifact usage"). A listing is zlib of a line of JSON, ``[PATH, CONTENT]``, for each path; content is a
SHA-256, or ``-> TARGET`` of a link.

A roster's only layer tells what the native files of all its layers need: zlib of JSON, with ``facts`` by the digest of
the blob, and ``untold``, the digests of those of which nothing is known. What is in neither has no native files; so
the layer stays the same where only other layers change. It is the empty blob where nothing is known.

skopeo reads neither manifests nor configs above 4 MiB, so what is larger is not shared.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from buildkit.digest import DiffId, Digest, Key, canonical_json
from buildkit.layers.path_prefixes import MOST
from buildkit.layers.tar.member import Compression
from buildkit.native import NOTHING
from buildkit.oci.blob import Blob, LayerResult
from buildkit.oci.image import OCI_LAYER, OCI_MANIFEST

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
_ENTRY = "application/vnd.xoe.buildkit.entry.v1+json"
_ROSTER = "application/vnd.xoe.buildkit.roster.v1+json"
_LISTING = "application/vnd.xoe.buildkit.listing.v1+zlib"
_NATIVES = "application/vnd.xoe.buildkit.natives.v1+zlib"
_ANNOTATION = "io.xoe.buildkit.layers"
_FORMAT = 1
_READ_BYTES = 4 << 20  # of a manifest, a config, or what tells of native files
_MOST_BYTES = 8 << 20  # of a description, unpacked
_MOST_LISTED = 64 << 20  # bytes of a listing, unpacked
_MOST_PATHS = 500_000
_MOST_TEXT = 16_384  # letters of a path, of what a link leads to, of a variable
_MOST_SIZE = 1 << 50
MOST_NATIVES = 256 << 10  # bytes of an entry; those of a CUDA image of three thousand libraries are a quarter of that
_UNTOLD = b"\n"  # the listing of a layer with more paths than fit, or whose paths are not known
_TAG = re.compile(r"cache-(?:[0-9a-f]{64}|of-.*)")
_STAGE_LENGTH = 128 - len("cache-of-")  # a tag has up to 128 letters
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNREAL = re.compile(r"[\x00\ud800-\udfff]")
_BAD_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")
_CONTENT = re.compile(r"[0-9a-f]{64}|-> .*", re.DOTALL)
_WRONG = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError, zlib.error)


class MalformedRecordError(ValueError):
    """What is no description of a layer, or none that can be shared; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRecord:
    """What a registry says of one key: what it came to, and the paths that it claims. Raises Nonsense.

    ``natives`` are the facts of each blob's native files (`native.facts.encode_facts`), empty where they are not told:
    a roster tells them in a blob of its own, for they would be most of it, and few builds ask for them.
    """

    key: Key
    kind: str
    name: str
    made: LayerResult
    claims: tuple[str, ...]
    natives: tuple[bytes, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        _check_text(self.kind)
        _check_text(self.name)
        for path in self.claims:
            _check_path(path)
        for line in self.made.env:
            if _UNREAL.search(line) or len(line) > _MOST_TEXT:
                raise MalformedRecordError("a variable in it is impossible")
        if len(self.claims) > MOST:
            raise MalformedRecordError("it claims more paths than an entry may")
        if not self.made.blobs:
            raise MalformedRecordError("it names no blob")
        if self.natives and len(self.natives) != len(self.made.blobs):
            raise MalformedRecordError("it tells of native files, and not of which blob")
        if sum(map(len, self.natives)) > MOST_NATIVES:
            raise MalformedRecordError("it tells too much of native files")


@dataclass(frozen=True, slots=True)
class Told:
    """The blob of a roster that tells of native files: how it is named."""

    digest: Digest
    size: int


def record_tag(key: Key) -> str:
    """The tag of a key's entry."""
    return f"cache-{key.hex}"


def stage_index_tag(stage: str) -> str:
    """The tag of a stage's roster."""
    fits = len(stage) <= _STAGE_LENGTH
    return f"cache-of-{stage if fits else Digest.of(stage.encode()).hex}"


def is_cache_tag(tag: str) -> bool:
    """Whether a tag is one of ours, and so cannot be an image's."""
    return bool(_TAG.fullmatch(tag))


def encode_record(entry: CacheRecord, config: bytes) -> bytes:
    """The manifest of an entry; ``config`` are the bytes of its config blob. Raises Nonsense for one too large."""
    return _manifest(
        _ENTRY, _descriptor(_LISTING, config), _layers(entry), [_write_entry(entry) | _write_natives(entry)]
    )


def encode_stage_index(entries: Iterable[CacheRecord], told: Told | None = None) -> bytes:
    """The manifest of a roster; its config is the empty blob, `EMPTY`, and so is its layer where nothing is ``told``.

    Raises Nonsense likewise.
    """
    empty = _descriptor(EMPTY_TYPE, EMPTY)
    layer = {"mediaType": _NATIVES, "digest": str(told.digest), "size": told.size} if told else empty
    return _manifest(_ROSTER, empty, [layer], [_write_entry(entry) for entry in entries])


def encode_natives(known: Mapping[Digest, bytes], digests: Iterable[Digest]) -> bytes | None:
    """What a roster tells of the blobs ``digests``; None where nothing of them is ``known``, or too much."""
    listed = {digest.hex: known.get(digest, b"") for digest in digests}
    listed = {name: data if len(data) <= MOST_NATIVES else b"" for name, data in listed.items()}
    facts = {name: base64.b64encode(data).decode() for name, data in listed.items() if data not in (b"", NOTHING)}
    untold = sorted(name for name, data in listed.items() if not data)
    text = canonical_json({"format": _FORMAT, "facts": facts, "untold": untold}).encode()
    packed = zlib.compress(text, 9)
    fits = len(text) <= _MOST_BYTES and len(packed) <= _READ_BYTES
    return packed if fits and len(untold) < len(listed) else None


def encode_listing(contents: Iterable[tuple[str, str]] | None) -> bytes:
    """The config blob of an entry; None for paths that are not known."""
    if contents is None:
        return zlib.compress(_UNTOLD)
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(f"{canonical_json(pair)}\n".encode()) for pair in contents) + packer.flush()
    return packed if len(packed) <= _READ_BYTES else zlib.compress(_UNTOLD)


def decode_records(manifest: bytes) -> dict[Key, CacheRecord]:
    """What an entry or a roster describes; raises Nonsense."""
    try:
        value = json.loads(manifest)
        if value["artifactType"] not in (_ENTRY, _ROSTER):
            raise MalformedRecordError("it is no entry of a buildkit cache")
        packed = base64.b64decode(value["annotations"][_ANNOTATION], validate=True)
        listed = json.loads(_inflate(packed, _MOST_BYTES))
        if listed["format"] != _FORMAT:
            raise MalformedRecordError("it was written by another version of buildkit")
        entries = [_read_entry(row) for row in _listed(listed["layers"])]
        if value["artifactType"] == _ENTRY and value["layers"] != _layers(*entries):
            raise MalformedRecordError("its layers are not those that it describes")
    except MalformedRecordError:
        raise
    except _WRONG as error:
        raise MalformedRecordError(f"it cannot be read: {type(error).__name__}") from error
    return {entry.key: entry for entry in entries}


def find_told(roster: bytes) -> Told | None:
    """The blob of a roster that tells of native files; None where it has none that could be."""
    with suppress(*_WRONG):
        (layer,) = json.loads(roster)["layers"]
        digest, size = Digest.parse(layer["digest"]), layer["size"]
        if layer["mediaType"] == _NATIVES and type(size) is int and 0 < size <= _READ_BYTES:
            return Told(digest, size)
    return None


def decode_natives(packed: bytes, digests: Iterable[Digest]) -> dict[Digest, bytes]:
    """What is told of those of a roster's blobs, ``digests``, of which anything is; raises Nonsense."""
    try:
        value = json.loads(_inflate(packed, _MOST_BYTES))
        if value["format"] != _FORMAT:
            raise MalformedRecordError("it was written by another version of buildkit")
        untold = {Digest(name) for name in _listed(value["untold"])}
        facts = {Digest(name): base64.b64decode(_text(one), validate=True) for name, one in value["facts"].items()}
    except MalformedRecordError:
        raise
    except _WRONG as error:
        raise MalformedRecordError(f"what it tells of native files cannot be read: {type(error).__name__}") from error
    if not all(0 < len(data) <= MOST_NATIVES for data in facts.values()):
        raise MalformedRecordError("it tells too much of native files, or nothing")
    return {digest: facts.get(digest, NOTHING) for digest in digests if digest not in untold}


def decode_listing(config: bytes) -> list[tuple[str, str]]:
    """The paths with their hashes; raises Nonsense."""
    try:
        data = _inflate(config, _MOST_LISTED)
        if data == _UNTOLD:
            raise MalformedRecordError("its listing is not shared")
        if data.count(b"\n") > _MOST_PATHS or (data and not data.endswith(b"\n")):
            raise MalformedRecordError("it lists more paths than a layer can have, or is cut off")
        return [_read_line(line) for line in data.split(b"\n")[:-1]]
    except MalformedRecordError:
        raise
    except _WRONG as error:
        raise MalformedRecordError(f"its listing cannot be read: {type(error).__name__}") from error


def _layers(entry: CacheRecord) -> list[dict[str, Any]]:
    return [
        {"mediaType": OCI_LAYER[blob.compression], "digest": str(blob.digest), "size": blob.size}
        for blob in entry.made.blobs
    ]


def _manifest(kind: str, config: dict[str, Any], layers: list[dict[str, Any]], told: list[dict[str, Any]]) -> bytes:
    listed = canonical_json({"format": _FORMAT, "layers": told}).encode()
    packed = base64.b64encode(zlib.compress(listed, 9)).decode("ascii")
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": config,
        "layers": layers,
        "annotations": {_ANNOTATION: packed},
    }
    manifest = json.dumps(value, separators=(",", ":")).encode()
    if len(manifest) > _READ_BYTES or len(listed) > _MOST_BYTES:
        raise MalformedRecordError("it is too large")
    return manifest


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def _inflate(packed: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    data = inflater.decompress(packed, most)
    if inflater.unconsumed_tail or not inflater.eof:
        raise MalformedRecordError("it is larger than it can be, or cut off")
    return data


def _write_natives(entry: CacheRecord) -> dict[str, Any]:
    return {"natives": [base64.b64encode(one).decode() for one in entry.natives]} if any(entry.natives) else {}


def _write_entry(entry: CacheRecord) -> dict[str, Any]:
    made = entry.made
    return {
        "key": entry.key.hex,
        "kind": entry.kind,
        "name": entry.name,
        "seconds": round(made.seconds, 3),
        "env": list(made.env),
        "claims": list(entry.claims),
        "blobs": [[b.digest.hex, b.diff_id.hex, b.size, b.unpacked, b.compression.value] for b in made.blobs],
    }


def _read_entry(row: dict[str, Any]) -> CacheRecord:
    blobs = tuple(_read_blob(*_listed(fields)) for fields in _listed(row["blobs"]))
    made = LayerResult(blobs=blobs, seconds=_number(row["seconds"]), env=tuple(map(_text, _listed(row["env"]))))
    return CacheRecord(
        key=Key(row["key"]),
        kind=_text(row["kind"]),
        name=_text(row["name"]),
        made=made,
        claims=tuple(map(_text, _listed(row["claims"]))),
        natives=tuple(base64.b64decode(_text(one), validate=True) for one in _listed(row.get("natives", []))),
    )


def _read_blob(digest: str, diff_id: str, size: int, unpacked: int, compression: str) -> Blob:
    for number in (size, unpacked):
        if type(number) is not int or not 0 <= number <= _MOST_SIZE:
            raise MalformedRecordError("it names a blob of an impossible size")
    return Blob(
        digest=Digest(digest),
        diff_id=DiffId(diff_id),
        size=size,
        unpacked=unpacked,
        compression=Compression(compression),
    )


def _read_line(line: bytes) -> tuple[str, str]:
    if len(line) > 16 * _MOST_TEXT:
        raise MalformedRecordError("a line of its listing is impossible")
    path, content = (_text(part) for part in _listed(json.loads(line)))
    _check_path(path)
    if not _CONTENT.fullmatch(content) or _UNREAL.search(content):
        raise MalformedRecordError("a content in its listing is impossible")
    return path, content


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedRecordError("a list is missing in it")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedRecordError("a text is missing in it")
    return value


def _check_text(text: str) -> None:
    if _CONTROL.search(text) or len(text) > _MOST_TEXT:
        raise MalformedRecordError("a text in it is endless, or holds control characters")


def _check_path(path: str) -> None:
    _check_text(path)
    if _BAD_PATH.search(path):
        raise MalformedRecordError("a path in it leads out of the image")


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise MalformedRecordError("a number in it is impossible")
    return float(value)
