"""The remote cache of a build. A cache that fails is reported once and then skipped; it never fails a build."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, TypeVar

from buildkit.digest import Digest, Key
from buildkit.errors import BlobsMissingError, BuildError, DamagedError, RegistryError, RemoteLostError
from buildkit.events import Emit, Note, StepFinished, StepStarted
from buildkit.hostile_json import MalformedError
from buildkit.native import NOTHING
from buildkit.store.blobs import Blobs

if TYPE_CHECKING:
    from buildkit.oci.reference import Ref
    from buildkit.remote.cache_client import CacheClient, Contents, FetchedLayer
    from buildkit.remote.cache_record import CacheRecord
    from buildkit.remote.stage_index import StageIndex
    from buildkit.store.ingest import OpenTree

_Result = TypeVar("_Result")

_NOT_READ = "layers are built here"
_NOT_WRITTEN = "layers built here are not published"
_NEITHER = "layers are built here and not published"


class RemoteCache:
    """The repositories that one run reads from and writes to; either may be none, or both the same.

    `CacheClient` raises every failure of its registry. This class tolerates them: the first failure is emitted as a
    warning, and the cache is not used again in this run. It also remembers the answers, so that each key and each stage
    is looked up once. Threads share it.
    """

    def __init__(self, emit: Emit, read: CacheClient | None = None, write: CacheClient | None = None) -> None:
        self._emit = emit
        self._read = read  # none, once it has failed
        self._write = write
        self._records: dict[Key, CacheRecord | None] = {}  # looked up in this run; None for a key that was not found
        self._lost: set[Key] = set()
        self._published: dict[Key, CacheRecord] = {}  # by this run
        self._indexes: dict[tuple[str, str], StageIndex] = {}
        self._facts: dict[tuple[str, str], Mapping[Digest, bytes]] = {}
        self._lock = threading.Lock()
        self._index_lock = threading.Lock()
        self._facts_lock = threading.Lock()

    def connect(self, read: CacheClient | None, write: CacheClient | None) -> None:
        """Read from and write to these repositories from now on."""
        self._read, self._write = read, write

    @property
    def name(self) -> str:
        """The repository that is read, empty for none."""
        return str(self._read.repository) if self._read else ""

    @property
    def repositories(self) -> tuple[Ref, ...]:
        """The repositories that are read or written, those that are read first."""
        return tuple(cache.repository for cache in (self._read, self._write) if cache)

    @property
    def writes(self) -> bool:
        """Whether there is a cache to write to."""
        return self._write is not None

    def find_records(self, stage: str, keys: Iterable[Key]) -> dict[Key, CacheRecord]:
        """Return the records of keys that the cache has; each key is looked up once in a run.

        Most keys are answered by one request for the index of ``stage``, unless that is empty.
        """
        cache, requested = self._read, list(keys)
        if cache is None:
            return {}
        if unknown := [key for key in requested if key not in self._records]:
            began, repository = time.monotonic(), str(cache.repository)
            self._emit(StepStarted(step=repository, phase="ask"))
            records = self._attempt(cache, lambda: self._look_up(cache, stage, unknown))
            note = f"{len(records or ())} of {len(unknown)} layer{'' if len(unknown) == 1 else 's'}"
            self._emit(StepFinished(step=repository, phase="ask", seconds=time.monotonic() - began, note=note))
            if records is None:
                return {}
            self._records |= dict.fromkeys(unknown) | records
        return {key: record for key in requested if (record := self._records[key]) is not None}

    def lacks(self, key: Key) -> bool:
        """Return whether the cache that is written to was asked for a layer in this run, and has others, but not it."""
        asked = self._write is not None and self._write is self._read and key in self._records
        others = any(index.records for index in self._indexes.values())
        return asked and others and self._records[key] is None and key not in self._published

    def find_native_facts(self, stage: str, digests: Iterable[Digest], blobs: Blobs) -> dict[Digest, bytes]:
        """Return the native facts of blobs that the stage's index has, by one request in a run."""
        cache, requested = self._read, list(digests)
        if cache is None or not requested:
            return {}
        known = self._attempt(cache, lambda: self._stage_facts(cache, stage, blobs)) or {}
        return {digest: known[digest] for digest in requested if digest in known}

    def find_full_records(self, keys: Iterable[Key]) -> dict[Key, CacheRecord]:
        """Return the records of keys with their native facts, which a stage index lacks, by one request each."""
        cache, requested = self._read, list(keys)
        if cache is None or not requested:
            return {}
        refused: list[str] = []
        records = self._attempt(cache, lambda: cache.find(requested, refused.append))
        self._report_refused(refused)
        return dict(records or {})

    def fetch_layer(
        self, key: Key, blobs: Blobs, open_tree: OpenTree = nullcontext
    ) -> tuple[CacheRecord, FetchedLayer]:
        """Store a layer's blobs in the local cache, and its files in what ``open_tree`` opens.

        Raises RemoteLostError if they cannot be fetched; the key then counts as not found for the rest of the run.
        """
        return self._use_record(key, lambda cache, record: (record, cache.fetch(record, blobs, open_tree)))

    def listing(self, key: Key) -> list[tuple[str, str]]:
        """Return the paths of a layer that another machine built; raises RemoteLostError as ``fetch_layer`` does."""
        return self._use_record(key, lambda cache, _record: cache.listing(key))

    def find_published(self, stage: str, keys: Iterable[Key]) -> dict[Key, CacheRecord]:
        """Return the records of keys that the cache that is written to has, as far as this run knows."""
        cache = self._write
        if cache is None:
            return {}
        index = self._attempt(cache, lambda: self._stage_index(cache, stage))
        records = dict(index.records) if index else {}
        if cache is self._read:
            records |= {key: record for key, record in self._records.items() if record is not None}
        records = {key: record for key, record in records.items() if key not in self._lost} | self._published
        return {key: records[key] for key in keys if key in records}

    def publish(self, record: CacheRecord, contents: Contents | None, blobs: Blobs) -> tuple[Digest, ...] | None:
        """Publish a layer; return the digests that went up, or None if it is not published.

        Raises DamagedError for blobs whose bytes do not match their digest.
        """
        cache = self._write
        if cache is None:
            return None
        try:
            uploaded = self._attempt(cache, lambda: cache.publish(record, contents, blobs), writing=True)
        except MalformedError:
            return None  # the manifest is too large
        if uploaded is not None:
            self._published[record.key] = record
        return uploaded

    def publish_stage_index(
        self, stage: str, records: Sequence[CacheRecord], facts: Mapping[Digest, bytes], blobs: Blobs
    ) -> None:
        """Publish the index of a stage's image unless it is unchanged; ``facts`` are the native facts known here.

        Other facts are kept from the index before. If none of them changes, only the name of their blob is repeated.
        """
        cache = self._write
        if cache is None:
            return
        known = self._indexes.get((str(cache.repository), stage))
        if list(known.records.values() if known else ()) == list(records):
            return
        with suppress(MalformedError):  # the index is too large: keys are looked up one by one
            self._attempt(cache, lambda: self._replace_index(cache, stage, records, facts, blobs), writing=True)

    def _replace_index(
        self,
        cache: CacheClient,
        stage: str,
        records: Sequence[CacheRecord],
        facts: Mapping[Digest, bytes],
        blobs: Blobs,
    ) -> None:
        from buildkit.remote.stage_index import encode_stage_facts

        digests, before = _digests(records), self._stage_index(cache, stage)
        if before.facts and digests - facts.keys():
            new_digests = digests - _digests(before.records.values())
            if all(facts.get(digest) == NOTHING for digest in new_digests):
                with suppress(BlobsMissingError):
                    cache.publish_stage_index(stage, records, before.facts, blobs)
                    return
            else:
                facts = {**self._stage_facts(cache, stage, blobs), **facts}
        cache.publish_stage_index(stage, records, encode_stage_facts(facts, digests), blobs)

    def _look_up(self, cache: CacheClient, stage: str, keys: Sequence[Key]) -> dict[Key, CacheRecord]:
        indexed = self._stage_index(cache, stage).records
        found = {key: indexed[key] for key in keys if key in indexed}
        refused: list[str] = []
        found |= cache.find([key for key in keys if key not in found], refused.append)
        self._report_refused(refused)
        return found

    def _stage_index(self, cache: CacheClient, stage: str) -> StageIndex:
        from buildkit.remote.stage_index import StageIndex

        place = (str(cache.repository), stage)
        with self._index_lock:
            if stage and place not in self._indexes:
                self._indexes[place] = StageIndex()  # if the request fails, it is not repeated
                refused: list[str] = []
                self._indexes[place] = cache.stage_index(stage, refused.append)
                self._report_refused(refused)
            return self._indexes.get(place, StageIndex())

    def _stage_facts(self, cache: CacheClient, stage: str, blobs: Blobs) -> Mapping[Digest, bytes]:
        """Return the native facts of a stage's index; facts that are malformed or missing are reported."""
        place = (str(cache.repository), stage)
        with self._facts_lock:
            if place not in self._facts:
                self._facts[place] = {}  # if the request fails, it is not repeated
                if self._stage_index(cache, stage).facts:
                    try:
                        self._facts[place] = cache.native_facts(stage, blobs)
                    except BuildError as error:
                        if _is_failing(error):
                            raise
                        self._report_refused([error.message])
            return self._facts[place]

    def _report_refused(self, refused: Sequence[str]) -> None:
        if refused:
            more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
            self._emit(Note(text=f"refused from the remote cache: {refused[0]}{more}", warning=True))

    def _use_record(self, key: Key, action: Callable[[CacheClient, CacheRecord], _Result]) -> _Result:
        cache, record = self._read, self._records.get(key)
        if cache is None or record is None:
            raise RemoteLostError("the remote cache is not used any more", reported=cache is None)
        try:
            return action(cache, record)
        except BuildError as error:
            self._records[key] = None
            self._lost.add(key)
            failing = _is_failing(error)
            if failing:
                self._stop_using(cache, error, writing=False)
            message = f"the remote cache did not deliver {record.name}: {error.message}"
            raise RemoteLostError(message, reported=failing) from error

    def _attempt(self, cache: CacheClient, action: Callable[[], _Result], *, writing: bool = False) -> _Result | None:
        try:
            return action()
        except DamagedError:
            raise
        except BuildError as error:
            self._stop_using(cache, error, writing=writing)
            return None

    def _stop_using(self, cache: CacheClient, error: BuildError, *, writing: bool) -> None:
        """Stop using a cache that failed, and report it the first time.

        A cache that denies reading may still be written to: some registries deny what does not exist yet.
        """
        denied = isinstance(error, RegistryError) and error.denied
        with self._lock:
            reads = cache is self._read and not writing
            writes = cache is self._write and (writing or not denied)
            self._read = None if reads else self._read
            self._write = None if writes else self._write
        if reads or writes:
            effect = _NEITHER if reads and writes else _NOT_READ if reads else _NOT_WRITTEN
            hint = f" ({error.hint})" if error.hint else ""
            self._emit(Note(text=f"remote cache: {error.message}; {effect}{hint}", warning=True))


def _is_failing(error: BuildError) -> bool:
    """Return whether the cache itself fails, rather than the one request."""
    return isinstance(error, RegistryError) and (error.down or error.denied)


def _digests(records: Iterable[CacheRecord]) -> frozenset[Digest]:
    return frozenset(blob.digest for record in records for blob in record.result.blobs)
