"""The plan is a value: where every layer of an image will come from, and why."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from buildkit.digest import DiffId, Key
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec


class LayerSource(StrEnum):
    """Where a layer comes from."""

    STORAGE = "storage"
    CACHE = "cache"
    SHARED = "shared"
    BUILT = "built"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView:
    """What is known of an image's layers while a plan is made.

    ``made`` is what the ledger knows of the keys, ``is_present`` whether a blob is in the cache, ``stored`` the
    diff_ids of the image that local storage holds under this stage's name, ``shared`` the keys whose blobs a
    registry has; ``why`` says in one line why a layer must be built.
    """

    made: Mapping[Key, LayerResult]
    is_present: Callable[[Blob], bool]
    stored: Sequence[DiffId] = ()
    shared: Container[Key] = ()
    why: Callable[[Spec], str] = lambda _spec: ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """One layer of the plan; ``made`` is known unless it is to be built, ``why`` says why it is.

    ``unpacked`` are its bytes as a tar: known if it was ever made, else expected (``sizes.estimate_size``).
    """

    spec: Spec
    source: LayerSource
    unpacked: int
    why: str = ""
    made: LayerResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a build of one stage will do."""

    composition: Composition
    entries: tuple[PlannedLayer, ...]

    @property
    def missing(self) -> tuple[PlannedLayer, ...]:
        """What must be built."""
        return tuple(entry for entry in self.entries if entry.source is LayerSource.BUILT)


def make_plan(composition: Composition, view: LedgerView) -> Plan:
    """Decide for every layer. Storage knows layers by their chain: it has one if it has all those below it too."""
    entries: list[PlannedLayer] = []
    depth = 0  # how many blobs of ``stored`` agree with the image so far; -1 once they do not
    for spec in composition.specs:
        made = view.made.get(spec.key)
        depth = _advance(depth, made, view.stored) if made else -1
        entries.append(plan_layer(spec, view, stored=depth >= 0))
    return Plan(composition=composition, entries=tuple(entries))


def plan_layer(spec: Spec, view: LedgerView, *, stored: bool = False) -> PlannedLayer:
    """Decide for one layer; ``stored`` where local storage has it, and all that lie below it."""
    made = view.made.get(spec.key)
    if made is None:
        from buildkit.plan.sizes import estimate_size  # where nothing changed nobody asks

        return PlannedLayer(spec=spec, source=LayerSource.BUILT, unpacked=estimate_size(spec), why=view.why(spec))
    unpacked = sum(blob.unpacked for blob in made.blobs)
    if stored:
        return PlannedLayer(spec=spec, source=LayerSource.STORAGE, unpacked=unpacked, made=made)
    if all(view.is_present(blob) for blob in made.blobs):
        return PlannedLayer(spec=spec, source=LayerSource.CACHE, unpacked=unpacked, made=made)
    if spec.key in view.shared:
        return PlannedLayer(spec=spec, source=LayerSource.SHARED, unpacked=unpacked, made=made)
    return PlannedLayer(spec=spec, source=LayerSource.BUILT, unpacked=unpacked, why=view.why(spec))


def _advance(depth: int, made: LayerResult, stored: Sequence[DiffId]) -> int:
    if depth < 0:
        return -1
    ids = [blob.diff_id for blob in made.blobs]
    return depth + len(ids) if list(stored[depth : depth + len(ids)]) == ids else -1
