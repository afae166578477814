"""Facts about native files of layers: collected while layers are packed, kept in the ledger by the digests of blobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from buildkit.digest import Digest
from buildkit.errors import BuildError
from buildkit.layers.tar.member import Chunks, Member
from buildkit.store.ledger import Ledger

if TYPE_CHECKING:
    from buildkit.native.collector import NativeCollector
    from buildkit.remote.cache_record import CacheRecord


def observe_members(members: Iterable[Member], collector: NativeCollector) -> Iterator[Member]:
    """Yield the same members; the collector sees native files as their content is read."""
    for member in members:
        if member.kind == "symlink":
            collector.add_link(member.path, member.target)
        if member.content is not None and collector.is_relevant(member.path, member.size):
            yield replace(member, content=partial(_observe, member.path, member.content, collector))
        else:
            yield member


def _observe(path: str, content: Chunks, collector: NativeCollector) -> Iterator[bytes]:
    return collector.tee_file(path, content(), again=content)


def record_collected(ledger: Ledger, digest: Digest, facts: bytes) -> None:
    """Record what was collected while a blob was packed, encoded.

    A ledger that cannot be written to is no reason to fail here: recording the layer itself reports it.
    """
    with suppress(BuildError):
        ledger.natives.add(digest, facts)


def record_remote_facts(ledger: Ledger, record: CacheRecord) -> None:
    """Record what a remote cache knows about the native files of a layer."""
    if any(record.native_facts):
        store = ledger.natives
        for blob, facts in zip(record.result.blobs, record.native_facts, strict=True):
            if facts:
                store.add(blob.digest, facts)


def find_native_facts(
    ledger: Ledger, digests: Sequence[Digest], check: Future[None] | None = None
) -> dict[Digest, bytes]:
    """Return the encoded facts of blobs that are known; if some are not, wait for the running ``check`` to add them."""
    store = ledger.natives
    facts = store.find(digests)
    if check and not facts.keys() >= set(digests):
        wait([check])
        facts = store.find(digests)
    return facts
