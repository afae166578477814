"""The shared cache in a build: a failing one is said and passed over, never a reason to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from buildkit.cache.blobs import Blobs
from buildkit.digest import Digest, Key
from buildkit.errors import BuildError, Interrupted, SharedLostError
from buildkit.events import Note, Say

if TYPE_CHECKING:
    from buildkit.cache.shared import SharedCache
    from buildkit.oci.entry import Entry

_Result = TypeVar("_Result")


class Sharing:
    """What one run reads of shared caches, and what it writes; either may be none. Threads share it."""

    def __init__(self, say: Say, read: SharedCache | None = None, write: SharedCache | None = None) -> None:
        self._say = say
        self._read = read
        self._write = write
        self._asked: dict[Key, Entry | None] = {}
        self._rosters: dict[tuple[str, str], Mapping[Key, Entry]] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The repository that is asked, empty for none."""
        return str(self._read.repository) if self._read else ""

    @property
    def writes(self) -> bool:
        """Whether there is a cache to write to."""
        return self._write is not None

    def ask(self, stage: str, keys: Iterable[Key]) -> dict[Key, Entry]:
        """What is shared of keys; each is asked for once in a run, most of them by one request for the stage."""
        wanted = list(keys)
        cache = self._read
        unknown = [key for key in wanted if key not in self._asked]
        if cache is not None and unknown:
            found = self._attempt(lambda: self._find(cache, stage, unknown)) or {}
            self._asked |= dict.fromkeys(unknown) | found
        return {key: entry for key in wanted if (entry := self._asked.get(key)) is not None}

    def fetch(self, key: Key, blobs: Blobs) -> int:
        """Bring a layer's blobs into the cache, or raise SharedLostError and never say again that it is shared."""
        entry = self._asked[key]
        assert entry is not None  # noqa: S101 - who fetches was told of it
        try:
            assert self._read is not None  # noqa: S101 - who else said so
            return self._read.fetch(entry, blobs)
        except Interrupted:
            raise
        except BuildError as error:
            self._asked[key] = None
            raise SharedLostError(f"the shared cache gives {entry.name} no more: {error.message}") from error

    def listing(self, key: Key) -> list[tuple[str, str]]:
        """The paths of a layer that another machine made; raises SharedLostError as ``fetch`` does."""
        try:
            if self._read is None or not self._asked.get(key):
                raise BuildError("it is not asked here")
            return self._read.listing(key)
        except Interrupted:
            raise
        except BuildError as error:
            self._asked[key] = None
            raise SharedLostError(f"the listing of a layer cannot be had: {error.message}") from error

    def find_unshared(self, stage: str, keys: Iterable[Key]) -> list[Key]:
        """Those keys that the cache which is written to is not known to have."""
        cache = self._write
        if cache is None:
            return []
        roster = self._attempt(lambda: self._roster(cache, stage)) or {}
        read = cache is self._read
        return [key for key in keys if key not in roster and not (read and self._asked.get(key))]

    def publish(self, entry: Entry, contents: Sequence[tuple[str, str]], blobs: Blobs) -> tuple[Digest, ...]:
        """Share a layer; returns the blobs that went up, none where the cache cannot be written to."""
        cache = self._write
        if cache is None:
            return ()
        return self._attempt(lambda: cache.publish(entry, contents, blobs), writing=True) or ()

    def publish_roster(self, stage: str, entries: Sequence[Entry], blobs: Blobs) -> None:
        """Share of what a stage's image consists, unless that is known."""
        cache = self._write
        if cache is None:
            return
        known = self._attempt(lambda: self._roster(cache, stage)) or {}
        if list(known) != [entry.key for entry in entries]:
            self._attempt(lambda: cache.publish_roster(stage, entries, blobs), writing=True)

    def _find(self, cache: SharedCache, stage: str, keys: Sequence[Key]) -> dict[Key, Entry]:
        roster = self._roster(cache, stage)
        found = {key: roster[key] for key in keys if key in roster}
        return found | cache.find([key for key in keys if key not in found], self._refused)

    def _roster(self, cache: SharedCache, stage: str) -> Mapping[Key, Entry]:
        place = (str(cache.repository), stage)
        if place not in self._rosters:
            self._rosters[place] = cache.roster(stage, self._refused)
        return self._rosters[place]

    def _refused(self, what: str) -> None:
        self._say(Note(text=f"refused from the shared cache: {what}", warning=True))

    def _attempt(self, action: Callable[[], _Result], *, writing: bool = False) -> _Result | None:
        try:
            return action()
        except Interrupted:
            raise
        except BuildError as error:
            with self._lock:
                first = (self._write if writing else self._read) is not None
                self._write = None
                self._read = self._read if writing else None
            if first:
                what = "what is built is not shared" if writing else "layers are built here"
                self._say(Note(text=f"shared cache: {error.message}; {what}", warning=True))
            return None
