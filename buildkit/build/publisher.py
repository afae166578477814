"""Publishes a build: pushes to registries, layers for the remote cache, and attestations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from buildkit.build.planner import Planner
from buildkit.events import Note, step
from buildkit.layers.tar.member import Compression
from buildkit.oci.image import Image
from buildkit.plan.plan import Plan
from buildkit.plan.spec import PackWheels, Spec

if TYPE_CHECKING:
    from concurrent.futures import Future

    from buildkit.build.attestations import AttestationRequest
    from buildkit.oci.reference import Ref
    from buildkit.remote.layer_stream import LayerStreams
    from buildkit.remote.push import Push, Pushed
    from buildkit.tasks.scheduler import Task
    from buildkit.tasks.task_id import TaskId

_ADVICE = (
    "has zstd layers now, which Docker before 23 and containerd before 1.5 cannot pull; "
    'compression = "gzip" in [tool.buildkit] is for those'
)
_ZSTD = (Compression.ZSTD, Compression.CHUNKED)


class Publisher:
    """Publishes the image of ``plan`` under ``targets``; there may be none. ``advises``: people read along."""

    def __init__(
        self,
        planner: Planner,
        plan: Plan,
        targets: tuple[Ref, ...],
        attestations: AttestationRequest | None,
        *,
        advises: bool = False,
    ) -> None:
        self._planner = planner
        self._plan = plan
        self._context = planner.context
        self._targets = targets
        self._attestations = attestations
        self._advises = advises

    def tasks(self, building: Mapping[TaskId, Spec]) -> Iterator[tuple[TaskId, Task]]:
        """Yield the tasks that upload layers while others are built; ``building`` are the layers by their tasks."""
        if self._push:
            yield from self._push.tasks(building)
        if self._context.remote_cache.writes:
            from buildkit.build.uploads import open_cache_export

            yield from open_cache_export(self._planner, self.streams).early_tasks(building)

    def publish(self, image: Image, check: Future[None]) -> Pushed | None:
        """Export layers to the remote cache, push the image and attest to it; return the result, None without targets.

        ``check`` is the running check of native files, whose facts are
        exported too.
        """
        if self._push:
            from buildkit.build.commit_labels import label_commit

            image = self._with_blobs(image)
            # else no commit describes the image, or each would rename models that it leaves as they are
            if not self._planner.checkout.replaced_locks and not self._plan.composition.stage.models_of:
                image = label_commit(image, self._context.project)
        with self._sharing(check):
            pushed = self._run_push(self._push, image) if self._push else None
        if self._push:
            self._attest(image)
        return pushed

    def _with_blobs(self, image: Image) -> Image:
        """Return the image whose layers have blobs; those that only the image store has are compressed now."""
        results = self._context.state.results
        unmade = [s for s in self._plan.composition.specs if not all(blob.is_made for blob in results[s.key].blobs)]
        if not unmade:
            return image
        from buildkit.build.make_blobs import make_blobs

        make_blobs(self._context, unmade)
        made = {blob.diff_id: blob for spec in unmade for blob in results[spec.key].blobs}
        layers = (replace(layer, blob=made.get(layer.blob.diff_id, layer.blob)) for layer in image.layers)
        return replace(image, layers=tuple(layers))

    @cached_property
    def streams(self) -> LayerStreams:
        """What uploads new layers while they are written."""
        from buildkit.build.uploads import open_streams

        return open_streams(self._context, self._plan, self._targets)

    @cached_property
    def _push(self) -> Push | None:
        if not self._targets:
            return None
        from buildkit.build.uploads import open_push

        self._advises = self._advises and not self._context.ledger.remote_blobs.find(self._targets[0].repository)
        return open_push(self._context, self._targets, self.streams)

    def _sharing(self, check: Future[None]) -> AbstractContextManager[None]:
        if not self._context.remote_cache.writes:
            return nullcontext()
        from buildkit.build.uploads import open_cache_export

        works = [spec.work for spec in self._plan.composition.layers if isinstance(spec.work, PackWheels)]
        specs = (*self._plan.composition.specs, *self._planner.tools(works))
        built = self._context.state.built_now.values()
        stage = self._plan.composition.stage.name
        return open_cache_export(self._planner, self.streams, check).publishing(stage, specs, built)

    def _run_push(self, push: Push, image: Image) -> Pushed:
        context, target = self._context, self._targets[0]
        with context.meter.phase("push", str(target)) as notes, step(context.emit, str(target), "push") as handle:
            pushed = push.run(image, handle.progress)
            context.tally.add(pushed=pushed.size)
            notes["xoe.bytes"] = handle.size = pushed.size
            handle.note = f"by skopeo: {pushed.why_skopeo}" if pushed.why_skopeo else ""
        context.ledger.remote_blobs.add(target.repository, (layer.blob.digest for layer in image.layers))
        if self._advises and any(layer.blob.compression in _ZSTD for layer in image.layers):
            context.emit(Note(text=f"{target.repository} {_ADVICE}"))  # with its first image only
        return pushed

    def _attest(self, image: Image) -> None:
        request, target = self._attestations, self._targets[0]
        if request is None:
            return
        from buildkit.build.attestations import attach_attestations

        context, composition = self._context, self._plan.composition
        with context.meter.phase("attest", str(target)), step(context.emit, str(target), "attest") as handle:
            size = attach_attestations(self._planner, composition, image.oci_manifest(), self._targets, request)
            context.tally.add(pushed=size)
            handle.size = size
