"""Search the content of a layer's files for secrets while it is streamed.

Limits: text is searched up to 64 MiB of a file, other content up to the first mebibyte (people do not write in
weights); values that only their names give away are searched for in the first 8 MiB. Of what is found, only a few
letters are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from buildkit.audit.layer_view import Secret
from buildkit.audit.secret_files import MOST, SecretFileKind, find_secret_file_kind
from buildkit.audit.secret_patterns import DISTINCT, IN_CODE, WRITTEN, Pattern, find_all

TEXT_LIMIT = 64 << 20
BINARY_LIMIT = 1 << 20
WRITTEN_LIMIT = 8 << 20
_OVERLAP = 8 << 10
_SNIFF = 8 << 10
_MOST_IN_LAYER = 10_000
_PUBLISHED = re.compile(
    r"(?:^|/)(?:site|dist)-packages/|^usr/(?!local/)|^lib/|^var/lib/dpkg/|^etc/ssl/certs/|/lib/python3(?:\.[0-9]+)?/|^opt/conda/(?:pkgs|lib)/"
)
_COMPILED = (".pyc", ".so", ".a", ".o")
_CODE = (".py", ".pyi", ".js", ".mjs", ".ts", ".c", ".h", ".cc", ".cpp", ".go", ".rs", ".java", ".rb", ".lua")


class SecretScanner:
    """Collects the secrets of one layer in ``found``; ``cut`` counts files that were not searched to the end."""

    def __init__(self, *, layer: int, text_limit: int = TEXT_LIMIT) -> None:
        self._layer = layer
        self._text_limit = text_limit
        self._known: dict[tuple[str, str], list[int]] = {}  # place in `found`, offset of the last one
        self.found: list[Secret] = []
        self.cut = 0

    def scan(self, path: str, size: int, chunks: Iterator[bytes]) -> None:
        """Search one file's content; ``chunks`` is read only as far as needed."""
        kind = find_secret_file_kind(path)
        first = next(chunks, b"")
        text = b"\0" not in first[:_SNIFF]
        limit = self._text_limit if text else BINARY_LIMIT
        self.cut += text and size > limit
        patterns = choose_patterns(path, text=text)
        if kind is not None:
            self._check_file_kind(kind, path, first[:MOST])
        at, tail, chunk = 0, b"", first
        while chunk:
            data = tail + chunk
            self._search(path, data, at - len(tail), patterns)
            at += len(chunk)
            if at >= WRITTEN_LIMIT:
                patterns = DISTINCT
            tail = data[-_OVERLAP:]
            chunk = next(chunks, b"") if at < limit else b""

    def _check_file_kind(self, kind: SecretFileKind, path: str, data: bytes) -> None:
        secret = kind.find(data)
        if secret is not None:
            self._add(kind.sort, path, secret, max(0, data.find(secret)))

    def _search(self, path: str, data: bytes, start: int, patterns: tuple[Pattern, ...]) -> None:
        for sort, offset, secret in find_all(data, patterns):
            self._add(sort, path, secret, start + offset)

    def _add(self, sort: str, path: str, secret: bytes, offset: int) -> None:
        known = self._known.get((sort, path))
        if known is None:
            if len(self.found) < _MOST_IN_LAYER:
                self._known[sort, path] = [len(self.found), offset]
                self.found.append(Secret(sort=sort, place=path, shown=redact(secret), layer=self._layer, offset=offset))
        elif offset > known[1]:  # pieces overlap: a secret is counted once
            first = self.found[known[0]]
            self.found[known[0]] = replace(first, more=first.more + 1)
            known[1] = offset


def choose_patterns(path: str, *, text: bool) -> tuple[Pattern, ...]:
    """Return the patterns that a file is searched for."""
    if not text or path.endswith(_COMPILED) or is_published(path):
        return DISTINCT
    return DISTINCT + (IN_CODE if path.endswith(_CODE) else WRITTEN)


def is_published(path: str) -> bool:
    """Return whether a distribution or an index provides the file, by its path."""
    return _PUBLISHED.search(path) is not None


def redact(secret: bytes) -> str:
    """Return what may be printed of a secret: its first letters if it is long, and its length."""
    if not secret:
        return ""
    if secret.startswith(b"-----"):
        return f"{secret[:60].decode('ascii', 'replace').splitlines()[0]}"
    kept = 4 if len(secret) >= 16 else 0
    start = "".join(chr(c) if 33 <= c < 127 else "?" for c in secret[:kept])
    return f"`{start}…` ({len(secret)} characters)"
