"""The plan is a value: where every layer of an image will come from, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from buildkit.digest import DiffId, Key
from buildkit.oci.blob import Blob, Made
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec
from buildkit.plan.why import explain_change


class Source(StrEnum):
    """Where a layer comes from."""

    STORAGE = "storage"
    CACHE = "cache"
    SHARED = "shared"
    BUILT = "built"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One layer of the plan; ``made`` is known unless it is to be built, ``why`` says why it is."""

    spec: Spec
    source: Source
    why: str = ""
    made: Made | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a build of one stage will do."""

    composition: Composition
    entries: tuple[Entry, ...]

    @property
    def missing(self) -> tuple[Entry, ...]:
        """What must be built."""
        return tuple(entry for entry in self.entries if entry.source is Source.BUILT)


def make_plan(
    composition: Composition,
    known: Mapping[Key, Made],
    is_present: Callable[[Blob], bool],
    stored: Sequence[DiffId],
    last: Mapping[str, str],
) -> Plan:
    """Decide for every layer.

    ``known`` is what the ledger knows of the keys, ``is_present`` whether a blob is in the cache, ``stored`` the
    diff_ids of the image that local storage holds under this stage's name, ``last`` the recipes of its last build
    by layer name. Storage knows layers by their chain: it has a layer if it has all those below it too.
    """
    entries: list[Entry] = []
    depth = 0  # how many blobs of ``stored`` agree with the image so far; -1 once they do not
    for spec in composition.specs:
        made = known.get(spec.key)
        if made is None:
            depth = -1
            entries.append(Entry(spec=spec, source=Source.BUILT, why=explain_change(spec, last)))
            continue
        depth = _advance(depth, made, stored)
        if depth >= 0:
            entries.append(Entry(spec=spec, source=Source.STORAGE, made=made))
        elif all(is_present(blob) for blob in made.blobs):
            entries.append(Entry(spec=spec, source=Source.CACHE, made=made))
        else:
            entries.append(Entry(spec=spec, source=Source.BUILT, why="its blob is gone from the cache"))
    return Plan(composition=composition, entries=tuple(entries))


def _advance(depth: int, made: Made, stored: Sequence[DiffId]) -> int:
    if depth < 0:
        return -1
    ids = [blob.diff_id for blob in made.blobs]
    return depth + len(ids) if list(stored[depth : depth + len(ids)]) == ids else -1
