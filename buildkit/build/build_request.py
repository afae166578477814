"""The request for one attempt at a build, and the loss that changes it for the next attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from buildkit.digest import Key
from buildkit.errors import BlobsMissingError, LostError, RemoteLostError
from buildkit.events import Note
from buildkit.lazy_dataclass import dataclass
from buildkit.plan.plan import LayerSource, Plan, PlannedLayer
from buildkit.report.text import format_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A loss that made an attempt fail and that a new plan avoids.

    ``reported`` has the planned layer, by key, of each layer that this attempt or an earlier one handled;
    ``only_remote`` holds, for each layer that only a remote cache has, the digests of its blobs (hexadecimal digits).
    """

    error: LostError
    reported: Mapping[Key, PlannedLayer]
    only_remote: Mapping[Key, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One attempt at a stage.

    With ``use_storage``, layers that only local storage has are left there. Layers in ``fetch`` are fetched from the
    remote cache even if nothing is imported. ``reported`` is what earlier attempts did for each layer.
    """

    stage: str
    use_storage: bool = True
    fetch: frozenset[Key] = frozenset()
    reported: Mapping[Key, PlannedLayer] = field(default_factory=dict)

    def after(self, lost: Lost) -> BuildRequest:
        """Return the request that avoids a loss."""
        request, error = replace(self, reported=lost.reported), lost.error
        if isinstance(error, BlobsMissingError):
            lacking = set(error.digests)
            fetch = {key for key, digests in lost.only_remote.items() if digests & lacking}
            only_in_storage = lacking.difference(*lost.only_remote.values())
            return replace(request, fetch=self.fetch | fetch, use_storage=self.use_storage and not only_in_storage)
        if isinstance(error, RemoteLostError):
            return request  # the remote cache will not offer the layer again
        return replace(request, use_storage=False)


def describe_loss(error: LostError, repository: str) -> Note | None:
    """Return the note about a loss for the user; None if one was emitted already.

    ``repository`` is the one that is pushed to.
    """
    if isinstance(error, BlobsMissingError):
        count = format_count(len(set(error.digests)), "layer")
        return Note(text=f"{repository} lacks {count} that must be fetched or built here first")
    if isinstance(error, RemoteLostError) and error.reported:
        return None
    return Note(text=f"{error.message}; planning again", warning=True)


def merge_reported(before: Mapping[Key, PlannedLayer], plan: Plan) -> dict[Key, PlannedLayer]:
    """Return what was done for each layer, by ``plan`` and the attempts before.

    What an earlier attempt did for a layer stands, unless the layer must be built now or comes from a remote cache.
    """
    merged = dict(before)
    for layer in plan.entries:
        if layer.source is LayerSource.SHARED or layer.result is None or layer.spec.key not in merged:
            merged[layer.spec.key] = layer
    return merged
