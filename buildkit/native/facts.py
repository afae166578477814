"""Native facts: the content of a layer that starting a program depends on, computed once per layer, stored and merged.

Paths are relative to the image's root, without a leading slash, as in the layer's tar.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any

from buildkit.digest import canonical_json
from buildkit.hostile_json import JsonValue, MalformedError, inflate_limited, parse_json
from buildkit.lazy_dataclass import dataclass
from buildkit.native import NOTHING
from buildkit.native.elf import Elf

FORMAT = 1

CACHE = "etc/ld.so.cache"
PRELOAD = "etc/ld.so.preload"
RELEASE = ("etc/os-release", "usr/lib/os-release")
_MAX_UNPACKED = 32 << 20  # bytes of uncompressed facts
_MAX_PATHS = 1_000_000
_MAX_NUMBER = 1 << 32
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
    content = {name: part for name, part in parts.items() if part}
    return zlib.compress(canonical_json({"format": FORMAT, **content}).encode(), 9) if content else NOTHING


def decode_facts(data: bytes) -> NativeFacts | None:
    """Return the facts that `encode_facts` encoded; None for data that is damaged, empty, or of another format."""
    if data == NOTHING:
        return NativeFacts()
    with suppress(MalformedError):
        value = parse_json(inflate_limited(data, limit=_MAX_UNPACKED), limit=_MAX_UNPACKED)
        if value.member("format").integer(0, _MAX_NUMBER) == FORMAT:
            return NativeFacts(
                files={path: _parse(row) for path, row in _members(value, "files").items()},
                links=_text_table(value, "links"),
                texts=_text_table(value, "texts"),
                unread=_text_table(value, "unread"),
                gone=value.member("gone").texts(_MAX_PATHS) if value.has("gone") else (),
            )
    return None


def _write(elf: Elf) -> list[Any]:
    return [
        elf.machine, elf.bits, elf.kind, elf.soname, elf.interpreter, elf.needed, elf.rpath, elf.runpath,
        elf.versions, elf.defines,
    ]  # fmt: skip


def _parse(row: JsonValue) -> Elf:
    machine, bits, kind, soname, interpreter, needed, rpath, runpath, versions, defines = row.row(10)
    return Elf(
        machine=machine.integer(0, _MAX_NUMBER),
        bits=bits.integer(0, _MAX_NUMBER),
        kind=kind.integer(0, _MAX_NUMBER),
        soname=soname.text(),
        interpreter=interpreter.text(),
        needed=needed.texts(_MAX_PATHS),
        rpath=rpath.texts(_MAX_PATHS),
        runpath=runpath.texts(_MAX_PATHS),
        versions=tuple(map(_parse_version, versions.items(_MAX_PATHS))),
        defines=defines.texts(_MAX_PATHS),
    )


def _parse_version(value: JsonValue) -> tuple[str, tuple[str, ...]]:
    file, names = value.row(2)
    return file.text(), names.texts(_MAX_PATHS)


def _members(value: JsonValue, key: str) -> dict[str, JsonValue]:
    return value.member(key).members(_MAX_PATHS) if value.has(key) else {}


def _text_table(value: JsonValue, key: str) -> dict[str, str]:
    return value.member(key).text_table(_MAX_PATHS, _MAX_UNPACKED) if value.has(key) else {}
