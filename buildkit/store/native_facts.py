"""What layers hold that starting depends on, kept by the digests of their blobs, and what came of checking images."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from buildkit.digest import Digest, Key
from buildkit.native import NOTHING
from buildkit.store.ledger import Ledger


class Natives:
    """What a ledger knows of native files. It only ever says what is said again: what cannot be read is not known."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def said(self, key: Key) -> tuple[str, ...] | None:
        """What a check of these layers under this config said; None for one that was never made."""
        rows = self._ledger.whole("starts", "WHERE key = ?", (key.hex,))
        with suppress(ValueError):
            said = json.loads(rows[0][1]) if rows else None
            return tuple(str(line) for line in said) if isinstance(said, list) else None
        return None

    def say(self, key: Key, lines: Sequence[str]) -> None:
        """Keep it."""
        self._ledger.put("starts", (key.hex, json.dumps(lines), time.time()))

    def find(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """The facts of blobs, as `facts.encode_facts` writes them."""
        rows = self._ledger.whole("natives", "WHERE digest IN", tuple(digest.hex for digest in digests))
        return {Digest(digest): facts for digest, facts, _ in rows}

    def hollow(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of blobs that are known to hold nothing native."""
        nothing = f"WHERE facts = x'{NOTHING.hex()}' AND digest IN"
        rows = self._ledger.whole("natives", nothing, tuple(digest.hex for digest in digests))
        return frozenset(Digest(digest) for digest, _, _ in rows)

    def add(self, digest: Digest, facts: bytes) -> None:
        """Keep those of a blob."""
        self._ledger.put("natives", (digest.hex, facts, time.time()))
