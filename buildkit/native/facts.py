"""Native facts: what a layer holds that starting a program depends on, computed once per layer, stored and merged.

Paths are relative to the image's root, without a leading slash, as in the layer's tar.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from buildkit.digest import canonical_json
from buildkit.native import NOTHING
from buildkit.native.elf import Elf

FORMAT = 1

CACHE = "etc/ld.so.cache"
PRELOAD = "etc/ld.so.preload"
RELEASE = ("etc/os-release", "usr/lib/os-release")
_MOST = 32 << 20  # bytes of uncompressed facts
_TEXT = re.compile(
    r"etc/ld\.so\.(?:conf|preload)|etc/ld\.so\.conf\.d/[^/]+|etc/ld-musl-[^/]+\.path|(?:etc|usr/lib)/os-release"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeFacts:
    """The native facts of one layer, or of an image.

    ``files`` are native files, ``links`` symbolic links, ``texts`` the linker's settings and os-release(5), by path.
    ``unread`` are files that start like native ones but could not be parsed, with the reason. ``gone`` are paths that
    the layer removes from those below; one with a trailing slash is a folder that it only empties.
    """

    files: Mapping[str, Elf] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeView:
    """The merged facts of an image; ``layers`` names the layer of each native file."""

    facts: NativeFacts
    layers: Mapping[str, str]


def is_text(path: str) -> bool:
    """Tell whether the text of a file is kept."""
    return path == CACHE or bool(_TEXT.fullmatch(path))


def merge_layers(layers: Iterable[tuple[str, NativeFacts]]) -> NativeView:
    """Merge the facts of layers (name, facts), lowest first, as a container sees them."""
    seen: _Seen = {}
    for name, facts in layers:
        _remove(seen, facts.gone)
        for kind, values in (("file", facts.files), ("link", facts.links), ("text", facts.texts), ("?", facts.unread)):
            seen |= {path: (kind, name, value) for path, value in values.items()}

    def of(kind: str) -> dict[str, Any]:
        return {path: value for path, (found, _, value) in seen.items() if found == kind}

    facts = NativeFacts(files=of("file"), links=of("link"), texts=of("text"), unread=of("?"))
    return NativeView(
        facts=facts, layers={path: name for path, (kind, name, _) in seen.items() if kind in ("file", "?")}
    )


_Seen = dict[str, tuple[str, str, Any]]
"""Path to kind, layer and value."""


def _remove(seen: _Seen, gone: Iterable[str]) -> None:
    exact = {path for path in gone if not path.endswith("/")}
    below = tuple(f"{path.rstrip('/')}/" for path in gone)
    if not below:
        return
    for path in [path for path in seen if path in exact or path.startswith(below)]:
        del seen[path]
    if "/" in below:  # the whole root of the image
        seen.clear()


def encode_facts(facts: NativeFacts) -> bytes:
    """Encode facts as compressed JSON, `NOTHING` if there are none; the same facts give the same bytes."""
    parts = {
        "files": {path: _write(elf) for path, elf in facts.files.items()},
        "links": dict(facts.links),
        "texts": dict(facts.texts),
        "unread": dict(facts.unread),
        "gone": facts.gone,
    }
    found = {name: part for name, part in parts.items() if part}
    return zlib.compress(canonical_json({"format": FORMAT, **found}).encode(), 9) if found else NOTHING


def decode_facts(data: bytes) -> NativeFacts | None:
    """Decode facts; None if the data is damaged, empty or of another format."""
    if data == NOTHING:
        return NativeFacts()
    with suppress(AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError, zlib.error):
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, _MOST)
        value: dict[str, Any] = json.loads(text) if unpacker.eof else {}
        if value["format"] == FORMAT:
            return NativeFacts(
                files={_name(path): _parse(row) for path, row in value.get("files", {}).items()},
                links=_texts(value.get("links", {})),
                texts=_texts(value.get("texts", {})),
                unread=_texts(value.get("unread", {})),
                gone=_names(value.get("gone", [])),
            )
    return None


def _write(elf: Elf) -> list[Any]:
    return [
        elf.machine, elf.bits, elf.kind, elf.soname, elf.interpreter, elf.needed, elf.rpath, elf.runpath,
        elf.versions, elf.defines,
    ]  # fmt: skip


def _parse(row: list[Any]) -> Elf:
    machine, bits, kind, soname, interpreter, needed, rpath, runpath, versions, defines = row
    return Elf(
        machine=int(machine),
        bits=int(bits),
        kind=int(kind),
        soname=_name(soname),
        interpreter=_name(interpreter),
        needed=_names(needed),
        rpath=_names(rpath),
        runpath=_names(runpath),
        versions=tuple((_name(file), _names(names)) for file, names in versions),
        defines=_names(defines),
    )


def _texts(value: dict[str, Any]) -> dict[str, str]:
    return {_name(path): _name(text) for path, text in value.items()}


def _names(value: list[Any]) -> tuple[str, ...]:
    return tuple(map(_name, value))


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    value.encode()  # ValueError for text that cannot be encoded again
    return value
