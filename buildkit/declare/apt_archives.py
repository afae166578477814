"""Where the packages of a root come from, if not from the suite's usual archive as it is now.

``snapshot`` names a moment of the archive, ``[[root.source]]`` further archives. Each is trusted through a key: the
distribution's own, or a public key that is committed with the project.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from buildkit.declare.schema import KeySchema, ListSchema, TableSchema, TextSchema, ValueLocation
from buildkit.lazy_dataclass import dataclass

_PUBLIC = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END = "-----END PGP PUBLIC KEY BLOCK-----"
_PRIVATE = "PRIVATE KEY BLOCK-----"
_RFC3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
_WORD = TextSchema(r"[A-Za-z0-9][A-Za-z0-9._/+-]*", "a name without spaces")
_NO_LOGIN = "an archive that asks for a login is reached by a mirror or proxy that logs in: name that"
_URI = TextSchema(
    r"https?://(?![^/]*@)[!-~]+",
    "an http or https URI",
    advise=lambda text: _NO_LOGIN if "@" in text else "",
    instead=_NO_LOGIN,
)
_ARMOR = re.compile(r"[ -~]*")

KEY = KeySchema(
    TextSchema(r"(?!/)(?!(?:[^\0]*/)?\.\.(?:/|$))[^\0]+\.asc", "a path in the repository that ends in .asc"),
    "public key of the archive, armored (`gpg --export --armor`); default: the distribution's",
)
SNAPSHOT = KeySchema(
    TextSchema(_RFC3339, "a time in UTC such as 2026-11-20T00:00:00Z"),
    "moment of the distribution's archive, from which versions are locked and the root is made",
)
SOURCES = KeySchema(
    ListSchema(
        TableSchema(
            {
                "uri": KeySchema(_URI, "URI of the archive", required=True),
                "suite": KeySchema(
                    TextSchema(r"[A-Za-z0-9.][A-Za-z0-9._/+-]*|/", "a suite, or a folder that ends in `/`"),
                    "suite, or for an archive without suites the folder of its index: `/`",
                    required=True,
                ),
                "components": KeySchema(ListSchema(_WORD, least=1), "components of the suite"),
                "key": KeySchema(KEY.value, "public key of the archive, armored", required=True),
            }
        )
    ),
    "further archives",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """An OpenPGP public key: its file in the repository, and its armored text once that is read."""

    file: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSource:
    """A further archive. A ``suite`` that ends in ``/`` is a folder below ``uri``, and has no components."""

    uri: str
    suite: str
    key: PublicKey
    components: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Archives:
    """The archives of a root: of its distribution, at the moment ``snapshot`` (``20261120T000000Z``), and others.

    ``key`` replaces the distribution's keyring. The default is what mmdebstrap knows of the suite.
    """

    snapshot: str = ""
    key: PublicKey | None = None
    sources: tuple[AptSource, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The files of public keys."""
        own = (self.key.file,) if self.key else ()
        return tuple(dict.fromkeys((*own, *(source.key.file for source in self.sources))))

    def with_keys(self, read: Callable[[str], PublicKey]) -> Archives:
        """Return these archives with the text of every key."""
        return replace(
            self,
            key=self.key and read(self.key.file),
            sources=tuple(replace(source, key=read(source.key.file)) for source in self.sources),
        )


USUAL = Archives()
"""The archives that mmdebstrap knows."""


def parse_archives(root: dict[str, Any], place: ValueLocation) -> Archives:
    """Return the archives that ``[root]`` names; problems are reported to ``place``."""
    snapshot = root.get("snapshot", "")
    if snapshot and not _is_time(snapshot):
        place.at("snapshot").report(f"`{snapshot}` is not a time")
    listed = root.get("source", ())
    sources = tuple(_source(item, place.at("source").at(n)) for n, item in enumerate(listed))
    return Archives(
        snapshot=re.sub(r"[:-]", "", snapshot),
        key=PublicKey(file=root["key"]) if "key" in root else None,
        sources=sources,
    )


def parse_public_key(file: str, text: str) -> PublicKey:
    """Return an armored public key (RFC 9580, section 6.2). Raises ValueError, which says what it is instead."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if any(line.endswith(_PRIVATE) for line in lines):
        raise ValueError("holds a private key, which must not be in a repository")
    if not lines or lines[0] != _PUBLIC or lines[-1] != _END or not all(map(_ARMOR.fullmatch, lines)):
        raise ValueError("is not an armored public key")
    return PublicKey(file=file, text="\n".join(lines) + "\n")


def _source(item: dict[str, Any], place: ValueLocation) -> AptSource:
    suite, components = item.get("suite", ""), item.get("components", ())
    if suite.endswith("/") and components:
        place.at("components").report("has no effect: a suite that ends in `/` has none")
    if suite and not suite.endswith("/") and not components and not place.at("components").faulty:
        place.at("components").report("is missing", 'such as ["main"]; an archive without suites has the suite `/`')
    key = PublicKey(file=item.get("key", ""))
    return AptSource(uri=item.get("uri", "").rstrip("/"), suite=suite, components=components, key=key)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
