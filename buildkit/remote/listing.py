"""Listings: the paths of a layer with their contents, as the config blob of its cache record.

A listing (`layers.tar.listing`) is zlib of lines of JSON, ``[PATH, CONTENT]`` for each path. A single
empty line stands for a listing that is not known or was too large.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

from buildkit.digest import canonical_json
from buildkit.hostile_json import MalformedError, inflate_limited, parse_json
from buildkit.remote.cache_manifest import MAX_MANIFEST
from buildkit.remote.text_checks import MAX_TEXT, check_path

LISTING_TYPE = "application/vnd.xoe.buildkit.listing.v1+zlib"
_MAX_UNPACKED = 64 << 20
_MAX_PATHS = 500_000
_MAX_LINE = 16 * MAX_TEXT
_UNKNOWN = b"\n"
_CONTENT = re.compile(r"[0-9a-f]{64}(?: \+x)?|-> [^\0]*|/|special|namespace", re.DOTALL)


def encode_listing(contents: Iterable[tuple[str, str]] | None) -> bytes:
    """Return the listing of a layer; None for paths that are not known."""
    if contents is None:
        return zlib.compress(_UNKNOWN)
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(f"{canonical_json(pair)}\n".encode()) for pair in contents) + packer.flush()
    return packed if len(packed) <= MAX_MANIFEST else zlib.compress(_UNKNOWN)


def decode_listing(packed: bytes) -> list[tuple[str, str]]:
    """Return the paths with their contents; raises MalformedError."""
    data = inflate_limited(packed, limit=_MAX_UNPACKED, what="the listing")
    if data == _UNKNOWN:
        raise MalformedError("the listing is not published")
    if data.count(b"\n") > _MAX_PATHS:
        raise MalformedError(f"the listing has more than {_MAX_PATHS} paths")
    if data and not data.endswith(b"\n"):
        raise MalformedError("the listing is cut off")
    return [_read_line(line) for line in data.split(b"\n")[:-1]]


def _read_line(line: bytes) -> tuple[str, str]:
    path, content = (item.text() for item in parse_json(line, limit=_MAX_LINE, what="a line of the listing").row(2))
    check_path(path)
    if not _CONTENT.fullmatch(content):
        raise MalformedError("a content of the listing is none that a layer can have")
    return path, content
