"""The shared cache in a build: a failing one is said once and passed over, never a reason to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from buildkit.digest import Digest, Key
from buildkit.errors import BlobsMissingError, BuildError, DamagedError, RegistryError, RemoteLostError
from buildkit.events import Emit, Note, StepFinished, StepStarted
from buildkit.native import NOTHING
from buildkit.store.blobs import Blobs

if TYPE_CHECKING:
    from buildkit.remote.cache_client import CacheClient, Contents, Fetched, StageIndex
    from buildkit.remote.cache_record import CacheRecord

_Result = TypeVar("_Result")

_NOT_READ = "layers are built here"
_NOT_WRITTEN = "what is built here is not shared"
_NEITHER = "layers are built here, and not shared"


class RemoteCache:
    """What one run reads of shared caches, and what it writes; either may be none. Threads share it."""

    def __init__(self, emit: Emit, read: CacheClient | None = None, write: CacheClient | None = None) -> None:
        self._emit = emit
        self._read = read  # none, once it has failed
        self._write = write
        self._asked: dict[Key, CacheRecord | None] = {}
        self._lost: set[Key] = set()
        self._shared: dict[Key, CacheRecord] = {}  # by this run
        self._rosters: dict[tuple[str, str], StageIndex] = {}
        self._natives: dict[tuple[str, str], Mapping[Digest, bytes]] = {}
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # for rosters
        self._telling = threading.Lock()  # of native files

    def connect(self, read: CacheClient | None, write: CacheClient | None) -> None:
        """Read from and write to these repositories from now on."""
        self._read, self._write = read, write

    @property
    def name(self) -> str:
        """The repository that is asked, empty for none."""
        return str(self._read.repository) if self._read else ""

    @property
    def writes(self) -> bool:
        """Whether there is a cache to write to."""
        return self._write is not None

    def ask(self, stage: str, keys: Iterable[Key]) -> dict[Key, CacheRecord]:
        """What is shared of keys; each is asked for once in a run, most by one request for the stage, if it is said."""
        cache, wanted = self._read, list(keys)
        if cache is None:
            return {}
        if unknown := [key for key in wanted if key not in self._asked]:
            began, where = time.monotonic(), str(cache.repository)
            self._emit(StepStarted(step=where, phase="ask"))
            found = self._attempt(cache, lambda: self._find(cache, stage, unknown))
            note = f"{len(found or ())} of {len(unknown)} layer{'' if len(unknown) == 1 else 's'}"
            self._emit(StepFinished(step=where, phase="ask", seconds=time.monotonic() - began, note=note))
            if found is None:
                return {}
            self._asked |= dict.fromkeys(unknown) | found
        return {key: entry for key in wanted if (entry := self._asked[key]) is not None}

    def natives(self, stage: str, digests: Iterable[Digest], blobs: Blobs) -> dict[Digest, bytes]:
        """What the stage's roster tells of the native files of blobs: one request in a run."""
        cache, wanted = self._read, list(digests)
        if cache is None or not wanted:
            return {}
        told = self._attempt(cache, lambda: self._tell(cache, stage, blobs)) or {}
        return {digest: told[digest] for digest in wanted if digest in told}

    def entries(self, keys: Iterable[Key]) -> dict[Key, CacheRecord]:
        """All that is told of keys, one request each: what a roster does not tell."""
        cache, wanted = self._read, list(keys)
        if cache is None or not wanted:
            return {}
        refused: list[str] = []
        found = self._attempt(cache, lambda: cache.find(wanted, refused.append))
        self._say_refused(refused)
        return dict(found or {})

    def fetch(self, key: Key, blobs: Blobs) -> tuple[CacheRecord, Fetched]:
        """Bring a layer's blobs into the cache, or raise RemoteLostError and never say again that it is shared."""
        return self._take(key, lambda cache, entry: (entry, cache.fetch(entry, blobs)))

    def listing(self, key: Key) -> list[tuple[str, str]]:
        """The paths of a layer that another machine made; raises RemoteLostError as ``fetch`` does."""
        return self._take(key, lambda cache, _entry: cache.listing(key))

    def known(self, stage: str, keys: Iterable[Key]) -> dict[Key, CacheRecord]:
        """What the cache that is written to was seen to have, and has not lost."""
        cache = self._write
        if cache is None:
            return {}
        roster = self._attempt(cache, lambda: self._roster(cache, stage))
        found = dict(roster.entries) if roster else {}
        if cache is self._read:
            found |= {key: entry for key, entry in self._asked.items() if entry is not None}
        found = {key: entry for key, entry in found.items() if key not in self._lost} | self._shared
        return {key: found[key] for key in keys if key in found}

    def publish(self, entry: CacheRecord, contents: Contents | None, blobs: Blobs) -> tuple[Digest, ...] | None:
        """Share a layer; returns the blobs that went up, None where it is not shared.

        Raises DamagedError for blobs that are not what they are named.
        """
        from buildkit.remote.cache_record import MalformedRecordError

        cache = self._write
        if cache is None:
            return None
        try:
            went = self._attempt(cache, lambda: cache.publish(entry, contents, blobs), writing=True)
        except MalformedRecordError:
            return None  # too large, and nothing else: an entry is well-formed
        if went is not None:
            self._shared[entry.key] = entry
        return went

    def publish_roster(
        self, stage: str, entries: Sequence[CacheRecord], natives: Mapping[Digest, bytes], blobs: Blobs
    ) -> None:
        """Share of what a stage's image consists, unless that is known; ``natives`` are the facts that are known here.

        What else is told of native files is taken over from the roster before, by its name alone where that suffices.
        """
        from buildkit.remote.cache_record import MalformedRecordError

        cache = self._write
        if cache is None:
            return
        known = self._rosters.get((str(cache.repository), stage))
        if list(known.entries.values() if known else ()) == list(entries):
            return
        try:
            self._attempt(cache, lambda: self._write_roster(cache, stage, entries, natives, blobs), writing=True)
        except MalformedRecordError:
            return  # too large: keys are asked for one by one

    def _write_roster(
        self,
        cache: CacheClient,
        stage: str,
        entries: Sequence[CacheRecord],
        natives: Mapping[Digest, bytes],
        blobs: Blobs,
    ) -> None:
        from buildkit.remote.cache_record import encode_natives

        digests, before = _digests(entries), self._roster(cache, stage)
        if before.told and digests - natives.keys():
            if all(natives.get(digest) == NOTHING for digest in digests - _digests(before.entries.values())):
                with suppress(BlobsMissingError):
                    cache.publish_roster(stage, entries, before.told, blobs)
                    return
            else:
                natives = {**self._tell(cache, stage, blobs), **natives}
        cache.publish_roster(stage, entries, encode_natives(natives, digests), blobs)

    def _find(self, cache: CacheClient, stage: str, keys: Sequence[Key]) -> dict[Key, CacheRecord]:
        roster = self._roster(cache, stage).entries
        found = {key: roster[key] for key in keys if key in roster}
        refused: list[str] = []
        found |= cache.find([key for key in keys if key not in found], refused.append)
        self._say_refused(refused)
        return found

    def _roster(self, cache: CacheClient, stage: str) -> StageIndex:
        from buildkit.remote.cache_client import StageIndex

        place = (str(cache.repository), stage)
        with self._asking:
            if stage and place not in self._rosters:
                self._rosters[place] = StageIndex()  # if it fails it is not asked for again
                refused: list[str] = []
                self._rosters[place] = cache.roster(stage, refused.append)
                self._say_refused(refused)
            return self._rosters.get(place, StageIndex())

    def _tell(self, cache: CacheClient, stage: str, blobs: Blobs) -> Mapping[Digest, bytes]:
        """What a stage's roster tells of native files; one that cannot be had, or is nonsense, is said."""
        place = (str(cache.repository), stage)
        with self._telling:
            if place not in self._natives:
                self._natives[place] = {}  # likewise
                if self._roster(cache, stage).told:
                    try:
                        self._natives[place] = cache.natives(stage, blobs)
                    except BuildError as error:
                        if _is_failing(error):
                            raise
                        self._say_refused([error.message])
            return self._natives[place]

    def _say_refused(self, refused: Sequence[str]) -> None:
        if refused:
            more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
            self._emit(Note(text=f"refused from the shared cache: {refused[0]}{more}", warning=True))

    def _take(self, key: Key, action: Callable[[CacheClient, CacheRecord], _Result]) -> _Result:
        cache, entry = self._read, self._asked.get(key)
        if cache is None or entry is None:
            raise RemoteLostError("the shared cache is not asked any more", reported=cache is None)
        try:
            return action(cache, entry)
        except BuildError as error:
            self._asked[key] = None
            self._lost.add(key)
            failing = _is_failing(error)
            if failing:
                self._fail(cache, error, writing=False)
            what = f"{entry.name} is not to be had from the shared cache: {error.message}"
            raise RemoteLostError(what, reported=failing) from error

    def _attempt(self, cache: CacheClient, action: Callable[[], _Result], *, writing: bool = False) -> _Result | None:
        try:
            return action()
        except DamagedError:
            raise
        except BuildError as error:
            self._fail(cache, error, writing=writing)
            return None

    def _fail(self, cache: CacheClient, error: BuildError, *, writing: bool) -> None:
        """Leave a cache alone from now on, and say so if nobody has.

        Who may not read may write: registries deny what is not there yet.
        """
        denied = isinstance(error, RegistryError) and error.denied
        with self._lock:
            reads = cache is self._read and not writing
            writes = cache is self._write and (writing or not denied)
            self._read = None if reads else self._read
            self._write = None if writes else self._write
        if reads or writes:
            what = _NEITHER if reads and writes else _NOT_READ if reads else _NOT_WRITTEN
            hint = f" ({error.hint})" if error.hint else ""
            self._emit(Note(text=f"shared cache: {error.message}; {what}{hint}", warning=True))


def _is_failing(error: BuildError) -> bool:
    """Whether it is the cache that fails, and not what is asked of it."""
    return isinstance(error, RegistryError) and (error.down or error.denied)


def _digests(entries: Iterable[CacheRecord]) -> frozenset[Digest]:
    return frozenset(blob.digest for entry in entries for blob in entry.made.blobs)
