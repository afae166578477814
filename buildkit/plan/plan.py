"""The plan of a build: where every layer of an image will come from, and why, as a value."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from enum import StrEnum

from buildkit.digest import DiffId, Key
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec


class LayerSource(StrEnum):
    """The place that a layer comes from."""

    STORAGE = "storage"
    CACHE = "cache"
    SHARED = "shared"
    BUILT = "built"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView:
    """The facts about an image's layers from which a plan is made.

    ``results`` are the ledger's results by key, ``is_present`` tells whether a blob is in the cache, ``stored`` are the
    diff_ids of the image in local storage under this stage's name, ``shared`` the keys whose blobs a registry has;
    ``why`` returns one line on why a layer must be built.
    """

    results: Mapping[Key, LayerResult]
    is_present: Callable[[Blob], bool]
    stored: Sequence[DiffId] = ()
    shared: Container[Key] = ()
    why: Callable[[Spec], str] = lambda _spec: ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """One layer of the plan; ``result`` is its known result unless it must be built, ``why`` then says why.

    ``unpacked`` are the bytes of its tar: known if it was ever built, else estimated (``sizes.estimate_size``).
    """

    spec: Spec
    source: LayerSource
    unpacked: int
    why: str = ""
    result: LayerResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of a build of one stage."""

    composition: Composition
    entries: tuple[PlannedLayer, ...]

    @property
    def missing(self) -> tuple[PlannedLayer, ...]:
        """The layers that must be built."""
        return tuple(entry for entry in self.entries if entry.source is LayerSource.BUILT)


def make_plan(composition: Composition, view: LedgerView) -> Plan:
    """Choose the source of every layer. Local storage knows a layer only on top of all those below it."""
    entries: list[PlannedLayer] = []
    depth = 0  # how many blobs of ``stored`` agree with the image so far; -1 once they do not
    for spec in composition.specs:
        result = view.results.get(spec.key)
        depth = _advance(depth, result, view.stored) if result else -1
        entries.append(plan_layer(spec, view, stored=depth >= 0))
    return Plan(composition=composition, entries=tuple(entries))


def plan_layer(spec: Spec, view: LedgerView, *, stored: bool = False) -> PlannedLayer:
    """Choose the source of one layer; ``stored`` if local storage has it and all those below it."""
    result = view.results.get(spec.key)
    if result is None:
        from buildkit.plan.sizes import estimate_size  # not needed if nothing changed

        return PlannedLayer(spec=spec, source=LayerSource.BUILT, unpacked=estimate_size(spec), why=view.why(spec))
    unpacked = sum(blob.unpacked for blob in result.blobs)
    if stored:
        return PlannedLayer(spec=spec, source=LayerSource.STORAGE, unpacked=unpacked, result=result)
    if all(view.is_present(blob) for blob in result.blobs):
        return PlannedLayer(spec=spec, source=LayerSource.CACHE, unpacked=unpacked, result=result)
    if spec.key in view.shared:
        return PlannedLayer(spec=spec, source=LayerSource.SHARED, unpacked=unpacked, result=result)
    return PlannedLayer(spec=spec, source=LayerSource.BUILT, unpacked=unpacked, why=view.why(spec))


def _advance(depth: int, result: LayerResult, stored: Sequence[DiffId]) -> int:
    if depth < 0:
        return -1
    ids = [blob.diff_id for blob in result.blobs]
    return depth + len(ids) if list(stored[depth : depth + len(ids)]) == ids else -1
