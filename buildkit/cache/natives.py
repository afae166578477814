"""What layers hold that starting depends on, kept by the digests of their blobs, and what came of checking images."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from buildkit.cache.ledger import Ledger
from buildkit.digest import Digest, Key
from buildkit.native import NOTHING


class Natives:
    """What a ledger knows of native files. It only ever says what is said again: what cannot be read is not known."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def said(self, key: Key) -> tuple[str, ...] | None:
        """What a check of these layers under this config said; None for one that was never made."""
        row = self._ledger.one("SELECT said FROM starts WHERE key = ?", (key.hex,))
        with suppress(ValueError):
            said = json.loads(row[0]) if row else None
            return tuple(str(line) for line in said) if isinstance(said, list) else None
        return None

    def say(self, key: Key, lines: Sequence[str]) -> None:
        """Keep it."""
        row = (key.hex, json.dumps(lines), time.time())
        self._ledger.write("INSERT OR REPLACE INTO starts VALUES (?,?,?)", row)

    def find(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """The facts of blobs, as `facts.encode_facts` writes them."""
        rows = self._ledger.select_in("SELECT digest, facts FROM natives WHERE digest IN", [d.hex for d in digests])
        return {Digest(digest): facts for digest, facts in rows if isinstance(facts, bytes)}

    def hollow(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of blobs that are known to hold nothing native."""
        nothing = f"SELECT digest FROM natives WHERE facts = x'{NOTHING.hex()}' AND digest IN"  # noqa: S608 - our own
        rows = self._ledger.select_in(nothing, [digest.hex for digest in digests])
        return frozenset(Digest(digest) for (digest,) in rows)

    def add(self, digest: Digest, facts: bytes) -> None:
        """Keep those of a blob."""
        self._ledger.write("INSERT OR REPLACE INTO natives VALUES (?,?,?)", (digest.hex, facts, time.time()))
