"""The last build of an image that the ledger has. Every build asks, so nothing is loaded or read that need not be."""

from __future__ import annotations

from buildkit.store.database import Database


def is_latest(ledger: Database, stage: str, image: str, digest: str) -> bool:
    """Whether the last build recorded of a stage's image came to this digest."""
    query = "SELECT digest FROM builds WHERE stage = ? AND image = ? ORDER BY id DESC LIMIT 1"
    return bool(ledger.one(query, (stage, image)) == (digest,))
