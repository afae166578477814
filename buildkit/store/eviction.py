"""What to drop from a cache: a decision on values. Pure.

Dropped is what no stage needs and nobody used of late, the cheapest to have again per byte first. Things may share
files (two keys whose layers are the same bytes, two images with a layer in common): a file goes when nothing that stays
has it, and things that share what would go are judged together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheItem:
    """Something that may be dropped: its files with their bytes, the seconds to have it again, when it was used."""

    id: str
    files: Mapping[str, int]
    seconds: float
    used: float
    needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What was used in the last ``keep`` seconds stays (None: age protects nothing); the cache may have ``limit``
    bytes (None: all that may go goes). ``now`` is in seconds since the epoch, as the things' times are.
    """

    now: float
    keep: float | None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What goes, in this order; the files that go with it; bytes freed and left."""

    things: tuple[CacheItem, ...]
    files: tuple[str, ...]
    freed: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    things: tuple[CacheItem, ...]
    files: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.files.values())

    def price(self) -> tuple[float, float, str]:
        """Seconds for a byte; what was used longest ago goes first among equals."""
        seconds = sum(thing.seconds for thing in self.things) / max(self.size, 1)
        return seconds, max(thing.used for thing in self.things), self.things[0].id


def choose(things: Iterable[CacheItem], rules: Rules, fixed: int = 0) -> Choice:
    """Decide; ``fixed`` are bytes of the cache that are there whatever is dropped."""
    listed = sorted(things, key=lambda thing: thing.id)
    held: dict[str, int] = {}
    for thing in listed:
        if is_kept(thing, rules):
            held |= thing.files
    free = [thing for thing in listed if not is_kept(thing, rules) and thing.files.keys() - held.keys()]
    everything = held | {path: size for thing in listed for path, size in thing.files.items()}
    left = fixed + sum(everything.values())
    gone: list[_Group] = []
    for group in sorted(_groups(free, held), key=_Group.price):
        if rules.limit is not None and left <= rules.limit:
            break
        gone.append(group)
        left -= group.size
    return Choice(
        things=tuple(thing for group in gone for thing in group.things),
        files=tuple(path for group in gone for path in group.files),
        freed=sum(group.size for group in gone),
        left=left,
    )


def is_kept(thing: CacheItem, rules: Rules) -> bool:
    """Whether a thing may not go. Times in the future, of a clock that was set back, count as now."""
    return thing.needed or (rules.keep is not None and rules.now - min(thing.used, rules.now) < rules.keep)


def _groups(things: Sequence[CacheItem], held: Mapping[str, int]) -> list[_Group]:
    """Things that share files which nobody holds, together; each with its files."""
    leaders = {thing.id: thing.id for thing in things}

    def lead(name: str) -> str:
        while leaders[name] != name:
            leaders[name] = leaders[leaders[name]]
            name = leaders[name]
        return name

    owners: dict[str, str] = {}
    for thing in things:
        for path in sorted(thing.files.keys() - held.keys()):
            leaders[lead(thing.id)] = lead(owners.setdefault(path, thing.id))
    members: dict[str, list[CacheItem]] = {}
    for thing in things:
        members.setdefault(lead(thing.id), []).append(thing)
    return [
        _Group(
            things=tuple(group),
            files={path: size for thing in group for path, size in sorted(thing.files.items()) if path not in held},
        )
        for group in members.values()
    ]
