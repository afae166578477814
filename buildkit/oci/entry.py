"""Entries of the shared cache: manifests in a registry that say what a key came to. Pure; what is read is distrusted.

An *entry* (tag ``cache-KEY``) is an OCI artifact manifest whose layers are the blobs of one key, and whose config
is the listing of the paths that they own. A *roster* (tag ``cache-of-STAGE``) describes all layers of a stage's
last image in one manifest without blobs, so that one request answers for most keys. Both carry the same description
of a layer as an annotation: base64 of zlib of JSON (image specification, manifest.md, "guidelines for artifact usage").
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from buildkit.digest import DiffId, Digest, Key, canonical_json
from buildkit.layers.member import Compression
from buildkit.oci.blob import Blob, Made
from buildkit.oci.image import OCI_LAYER, OCI_MANIFEST

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
_ENTRY = "application/vnd.xoe.buildkit.entry.v1+json"
_ROSTER = "application/vnd.xoe.buildkit.roster.v1+json"
_ANNOTATION = "io.xoe.buildkit.layers"
_FORMAT = 1
_MOST_BYTES = 32 << 20  # unpacked JSON of a roster
_MOST_CLAIMS = 20_000
_MOST_SIZE = 1 << 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a registry says of one key: what it came to, and the paths that it claims."""

    key: Key
    kind: str
    name: str
    made: Made
    claims: tuple[str, ...]


class Nonsense(ValueError):
    """A manifest that is none of ours, or not well-formed; the message says what is wrong with it."""


def entry_tag(key: Key) -> str:
    """The tag of a key's entry."""
    return f"cache-{key.hex}"


def roster_tag(stage: str) -> str:
    """The tag of a stage's roster."""
    return f"cache-of-{stage}"


def encode_entry(entry: Entry, config: bytes) -> bytes:
    """The manifest of an entry; ``config`` are the bytes of its config blob."""
    layers = [
        {"mediaType": OCI_LAYER[blob.compression], "digest": str(blob.digest), "size": blob.size}
        for blob in entry.made.blobs
    ]
    return _manifest(_ENTRY, _descriptor(_ENTRY, config), layers, [entry])


def encode_roster(entries: Iterable[Entry]) -> bytes:
    """The manifest of a roster; its config and only layer are the empty blob, `EMPTY`."""
    empty = _descriptor(EMPTY_TYPE, EMPTY)
    return _manifest(_ROSTER, empty, [empty], entries)


def encode_listing(contents: Iterable[tuple[str, str]]) -> bytes:
    """The config blob of an entry: ``{"format", "contents": [[path, hash]]}``."""
    return canonical_json({"format": _FORMAT, "contents": [list(pair) for pair in contents]}).encode()


def decode_entries(manifest: bytes) -> dict[Key, Entry]:
    """What an entry or a roster describes; raises Nonsense."""
    try:
        value = json.loads(manifest)
        if value["artifactType"] not in (_ENTRY, _ROSTER):
            raise Nonsense("it is no entry of a buildkit cache")
        packed = base64.b64decode(value["annotations"][_ANNOTATION], validate=True)
        listed = json.loads(_inflate(packed))
        if listed["format"] != _FORMAT:
            raise Nonsense("it was written by another version of buildkit")
        entries = [_read_entry(row) for row in listed["layers"]]
    except Nonsense:
        raise
    except (KeyError, TypeError, ValueError, RecursionError, zlib.error) as error:
        raise Nonsense(f"it cannot be read: {type(error).__name__}") from error
    return {entry.key: entry for entry in entries}


def decode_listing(config: bytes) -> list[tuple[str, str]]:
    """The paths with their hashes; raises Nonsense."""
    try:
        rows = json.loads(config)["contents"]
        return [(_text(path), _text(content)) for path, content in rows]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Nonsense(f"its listing cannot be read: {type(error).__name__}") from error


def _manifest(kind: str, config: dict[str, Any], layers: list[dict[str, Any]], entries: Iterable[Entry]) -> bytes:
    listed = canonical_json({"format": _FORMAT, "layers": [_write_entry(entry) for entry in entries]})
    packed = base64.b64encode(zlib.compress(listed.encode(), 9)).decode("ascii")
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": config,
        "layers": layers,
        "annotations": {_ANNOTATION: packed},
    }
    return json.dumps(value, separators=(",", ":")).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def _inflate(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    data = inflater.decompress(packed, _MOST_BYTES)
    if inflater.unconsumed_tail or not inflater.eof:
        raise Nonsense("it is larger than an entry can be, or cut off")
    return data


def _write_entry(entry: Entry) -> dict[str, Any]:
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


def _read_entry(row: dict[str, Any]) -> Entry:
    blobs = tuple(_read_blob(*fields) for fields in row["blobs"])
    if not blobs:
        raise Nonsense("it names no blob")
    claims = tuple(_path(path) for path in _listed(row["claims"]))
    if len(claims) > _MOST_CLAIMS:
        raise Nonsense("it claims more paths than a layer can")
    env = tuple(_text(line) for line in _listed(row["env"]))
    made = Made(blobs=blobs, seconds=_number(row["seconds"]), env=env)
    return Entry(key=Key(row["key"]), kind=_text(row["kind"]), name=_text(row["name"]), made=made, claims=claims)


def _read_blob(digest: str, diff_id: str, size: int, unpacked: int, compression: str) -> Blob:
    for number in (size, unpacked):
        if type(number) is not int or not 0 <= number <= _MOST_SIZE:
            raise Nonsense("it names a blob of an impossible size")
    return Blob(
        digest=Digest(digest),
        diff_id=DiffId(diff_id),
        size=size,
        unpacked=unpacked,
        compression=Compression(compression),
    )


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Nonsense("a list is missing in it")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise Nonsense("a text in it is none, or holds control characters")
    return value


def _path(value: object) -> str:
    text = _text(value)
    if text.startswith("/") or {"", ".", ".."} & set(text.split("/")):
        raise Nonsense("a path in it leads out of the image")
    return text


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise Nonsense("a number in it is impossible")
    return float(value)
