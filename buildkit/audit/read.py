"""Read each layer once into a view: its members, small files that checks need, and possible secrets.

The input is not trusted: counts, sizes and names are limited, and a path that no honest tar has is recorded.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from buildkit.audit.layer_view import Kind, LayerView, TarEntry
from buildkit.audit.records import LARGEST, RECORDS
from buildkit.audit.secret_scan import SecretScanner
from buildkit.digits import find_number
from buildkit.errors import BuildError
from buildkit.layers.tar.reader import TarHeader, TarReader
from buildkit.native.collector import NativeCollector
from buildkit.native.elf import MAGIC
from buildkit.native.facts import is_text

_HEAD = 64
_PATH_MAX = 4096  # Linux's limit
_KEPT_SIZE = 256 << 10
_KEPT_NAMES = (
    "*/sitecustomize.py", "*/usercustomize.py", "*.pth", "*pyvenv.cfg",
    "etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/ld.so.preload",
)  # fmt: skip
_KEPT = re.compile("|".join(map(fnmatch.translate, _KEPT_NAMES)))
_KINDS: dict[str, Kind] = {
    "file": "file",
    "sparse file": "file",
    "folder": "folder",
    "symbolic link": "symbolic link",
    "hard link": "hard link",
    "character device": "character device",
    "block device": "block device",
    "pipe": "pipe",
}
_CAPABILITY = "pax SCHILY.xattr.security.capability"
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Limits beyond which an image is not audited: members and unpacked bytes of all layers."""

    members: int = 2_000_000
    unpacked: int = 256 << 30


@dataclass(slots=True, kw_only=True)
class LayerReader:
    """Reads the layers of one image, lowest first; ``scripts`` are names of scripts whose text is kept."""

    limits: ImageLimits = ImageLimits()
    scripts: frozenset[str] = frozenset()
    _members: int = field(default=0)
    _unpacked: int = field(default=0)

    def read(self, chunks: Iterable[bytes], digest: str, layer: int) -> LayerView:
        """Read one layer from the ``chunks`` of its tar. Raises BuildError if it is damaged or exceeds the limits."""
        return _LayerParser(self, digest, layer).read(self._count(chunks, digest))

    def take_member(self, digest: str) -> None:
        """Count a member; raises BuildError if there are too many."""
        self._members += 1
        if self._members > self.limits.members:
            raise BuildError(f"the layer {digest}: the image has more than {self.limits.members} members", hint=_HINT)

    def _count(self, chunks: Iterable[bytes], digest: str) -> Iterator[bytes]:
        for chunk in chunks:
            self._unpacked += len(chunk)
            if self._unpacked > self.limits.unpacked:
                what = f"the image unpacks to more than {self.limits.unpacked >> 30} GiB"
                raise BuildError(f"the layer {digest}: {what}", hint=_HINT)
            yield chunk


_HINT = "it is not audited: no honest image exceeds this limit"


class _LayerParser:
    def __init__(self, reader: LayerReader, digest: str, layer: int) -> None:
        self._reader = reader
        self._digest = digest
        self._layer = layer
        self._entries: list[TarEntry] = []
        self._oddities: list[tuple[str, str]] = []
        self._seen: dict[str, TarEntry] = {}
        self._links: set[str] = set()
        self._scanner = SecretScanner(layer=layer)
        self._native = NativeCollector()

    def read(self, chunks: Iterable[bytes]) -> LayerView:
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        tar = TarReader(counted(), f"the layer {self._digest}")
        try:
            for header in tar:
                self._reader.take_member(self._digest)
                self._take(header, tar)
        except ValueError as error:  # also from numbers of thousands of digits
            raise BuildError(f"the layer {self._digest} cannot be read: {error}") from error
        return LayerView(
            digest=self._digest,
            entries=tuple(self._entries),
            secrets=tuple(self._scanner.found),
            oddities=tuple(self._oddities),
            unpacked=size,
            cut=self._scanner.cut,
            native=self._native.facts(),
        )

    def _take(self, header: TarHeader, tar: TarReader) -> None:
        path = header.path.decode("utf-8", "backslashreplace")
        self._note_oddities(header, path)
        path = _inside(path)[:_PATH_MAX]
        fields = header.fields
        kind = _KINDS.get(fields["type"], "other")
        head, content = self._read_content(header, path, kind, tar)
        entry = TarEntry(
            path=path,
            kind=kind,
            name=fields["name"][:_PATH_MAX] if fields["name"].rstrip("/") != path else "",
            mode=int(fields["mode"], 8) & 0o7777,
            uid=_number(fields["uid"]),
            gid=_number(fields["gid"]),
            size=header.size,
            link=fields["link"][:_PATH_MAX] if kind in ("symbolic link", "hard link") else "",
            device=fields["device"] if "device" in kind else "",
            capability=_xattr_bytes(fields[_CAPABILITY][:1000]) if _CAPABILITY in fields else b"",
            layer=self._layer,
            head=head,
            content=content,
        )
        if path:
            self._add(entry)
            if entry.is_link:
                self._native.add_link(path, entry.link)
            elif kind == "hard link":
                self._native.add_hard_link(path, _inside(entry.link)[:_PATH_MAX])

    def _add(self, entry: TarEntry) -> None:
        known = self._seen.get(entry.path)
        if known is not None and not (known.kind == entry.kind == "folder"):
            self._oddities.append(("duplicate-member", entry.path))
        self._seen[entry.path] = entry
        if entry.is_link:
            self._links.add(entry.path)
        self._entries.append(entry)

    def _read_content(self, header: TarHeader, path: str, kind: Kind, tar: TarReader) -> tuple[bytes, bytes | None]:
        """Return the first bytes of a file, and all of it if a check needs that; record its secrets."""
        if kind != "file" or not header.size:
            if kind == "file":
                self._native.add_file(path, 0, ())
            return b"", b"" if kind == "file" and _KEPT.match(path) else None
        chunks = tar.content()
        first = next(chunks, b"")
        head = first[:_HEAD]
        rest = _prepend(first, chunks)
        if self._native.is_relevant(path, header.size):
            rest = self._native.tee_file(path, rest)
        content = None
        is_kept = _KEPT.match(path) or (head.startswith(b"#!") and path.rpartition("/")[2] in self._reader.scripts)
        if (header.size <= _KEPT_SIZE and is_kept) or (header.size <= LARGEST and RECORDS.fullmatch(path)):
            content = b"".join(rest)
            rest = iter((content,))
        self._scanner.scan(path, header.size, rest)
        if head.startswith(MAGIC) or is_text(path):
            for _ in rest:  # the collector reads it to its end
                pass
        return head, content

    def _note_oddities(self, header: TarHeader, path: str) -> None:
        name = header.fields["name"]
        parts = path.split("/")
        if ".." in parts:
            self._oddities.append(("path-escapes", name))
        elif name.startswith("/"):
            self._oddities.append(("absolute-member", name))
        if len(header.path) > _PATH_MAX:
            self._oddities.append(("odd-name", name[:_PATH_MAX]))
            return
        if not name.isprintable() or not _is_text(header.path):
            self._oddities.append(("odd-name", name))
        if self._links and any("/".join(parts[:depth]) in self._links for depth in range(1, len(parts))):
            self._oddities.append(("member-through-link", path))
        if header.fields["type"] == "hard link" and ".." in header.fields["link"].split("/"):
            self._oddities.append(("path-escapes", f"{path} → {header.fields['link']}"))


def _prepend(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _inside(path: str) -> str:
    """Normalise a path as a careful unpacker does: ``..`` never leaves the root."""
    if ".." not in path:
        return path
    done: list[str] = []
    for part in path.split("/"):
        if part == "..":
            done = done[:-1]
        elif part not in ("", "."):
            done.append(part)
    return "/".join(done)


def _is_text(path: bytes) -> bool:
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _number(text: str) -> int:
    number = find_number(text)
    return -1 if number is None else number


def _xattr_bytes(text: str) -> bytes:
    """Return the bytes of a record that the tar reader decoded to text."""
    out = bytearray()
    at = 0
    for found in _ESCAPED.finditer(text):
        out += text[at : found.start()].encode("utf-8") + bytes.fromhex(found[1])
        at = found.end()
    return bytes(out) + text[at:].encode("utf-8")
