"""Choose what to evict from a cache: a decision on values. Pure.

Evicted are items that no stage needs and that were not used recently, the cheapest to restore per byte first. Items may
share files (two keys whose layers have the same bytes, two images with a common layer): a file is evicted if no
remaining item has it, and items that share such files are evicted together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheItem:
    """An item of the cache: its files with their bytes, the seconds to restore it, and its last use."""

    id: str
    files: Mapping[str, int]
    seconds: float
    used: float
    needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionRules:
    """Items that were used in the last ``keep`` seconds stay (None: regardless of age).

    The cache may have ``limit`` bytes (None: evict whatever may be). ``now`` is in seconds since the epoch, as are the
    items' times.
    """

    now: float
    keep: float | None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """Evicted items, in this order, and their files; bytes freed and left."""

    items: tuple[CacheItem, ...]
    files: tuple[str, ...]
    freed: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    items: tuple[CacheItem, ...]
    files: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.files.values())

    def price(self) -> tuple[float, float, str]:
        """Seconds to restore a byte; among equals the least recently used comes first."""
        seconds = sum(item.seconds for item in self.items) / max(self.size, 1)
        return seconds, max(item.used for item in self.items), self.items[0].id


def choose_evictions(items: Iterable[CacheItem], rules: EvictionRules, permanent: int = 0) -> Eviction:
    """Choose; ``permanent`` are bytes of the cache that are never evicted."""
    ordered = sorted(items, key=lambda item: item.id)
    kept: dict[str, int] = {}
    for item in ordered:
        if is_kept(item, rules):
            kept |= item.files
    evictable = [item for item in ordered if not is_kept(item, rules) and item.files.keys() - kept.keys()]
    everything = kept | {path: size for item in ordered for path, size in item.files.items()}
    left = permanent + sum(everything.values())
    evicted: list[_Group] = []
    for group in sorted(_groups(evictable, kept), key=_Group.price):
        if rules.limit is not None and left <= rules.limit:
            break
        evicted.append(group)
        left -= group.size
    return Eviction(
        items=tuple(item for group in evicted for item in group.items),
        files=tuple(path for group in evicted for path in group.files),
        freed=sum(group.size for group in evicted),
        left=left,
    )


def is_kept(item: CacheItem, rules: EvictionRules) -> bool:
    """Return whether an item must stay. Times in the future, of a clock that was set back, count as now."""
    return item.needed or (rules.keep is not None and rules.now - min(item.used, rules.now) < rules.keep)


def _groups(items: Sequence[CacheItem], kept: Mapping[str, int]) -> list[_Group]:
    """Group items that share files which no kept item has; each group with these files."""
    leaders = {item.id: item.id for item in items}

    def lead(name: str) -> str:
        while leaders[name] != name:
            leaders[name] = leaders[leaders[name]]
            name = leaders[name]
        return name

    owners: dict[str, str] = {}
    for item in items:
        for path in sorted(item.files.keys() - kept.keys()):
            leaders[lead(item.id)] = lead(owners.setdefault(path, item.id))
    members: dict[str, list[CacheItem]] = {}
    for item in items:
        members.setdefault(lead(item.id), []).append(item)
    return [
        _Group(
            items=tuple(group),
            files={path: size for item in group for path, size in sorted(item.files.items()) if path not in kept},
        )
        for group in members.values()
    ]
