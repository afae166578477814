"""Upload layers while others are still being built.

They go up without a manifest, so nothing names them: a build that fails leaves only blobs that the registry's garbage
collection removes. The push at the end of the build finds them there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from buildkit.declare.stage import Config
from buildkit.digest import Digest, Key
from buildkit.errors import LostError, RegistryError
from buildkit.oci.blob import LayerResult
from buildkit.oci.image import Image, Layer
from buildkit.oci.reference import Ref
from buildkit.plan.spec import Spec
from buildkit.remote.layer_stream import LayerStreams
from buildkit.store.blobs import Blobs
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId, TaskKind
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import write_layout

MIN_UPLOAD_BYTES = 8 << 20
"""Size from which a layer is uploaded on its own: smaller ones go up with the image. skopeo takes 0.1 s for each."""


class LayerUpload:
    """Uploads single layers to the repository of ``ref``. A failure is left to the push at the end, which reports it.

    ``results`` is a live view of the layers that are built; ``progress`` returns a function that is told the bytes sent
    of a step. ``find_mount`` gives the path of another repository of the registry that may have a blob, or "".
    Layers of ``streams`` have gone up when they are built. ``uploaded`` lists the digests that went up. Once ``failed``
    is true, nothing more is uploaded.
    """

    def __init__(
        self,
        ref: Ref,
        blobs: Blobs,
        registries: RegistryClient,
        results: Mapping[Key, LayerResult],
        progress: Callable[[str], Callable[[int], None]],
        find_mount: Callable[[Digest], str],
        streams: LayerStreams,
    ) -> None:
        self._ref = ref
        self._blobs = blobs
        self._registries = registries.without_retries()
        self._results = results
        self._progress = progress
        self._find_mount = find_mount
        self._streams = streams
        self.failed = False
        self.uploaded: list[Digest] = []

    @property
    def vain(self) -> int:
        """The bytes that went up and became no blob."""
        return self._streams.vain

    def tasks(self, building: Mapping[TaskId, Spec], *needs: TaskId) -> Iterator[tuple[TaskId, Task]]:
        """Yield a task for each layer that is built, by the id of the task that builds it; all wait for ``needs``."""
        specs = building.values()
        for layer_task, spec in building.items():
            yield TaskId.of_key(TaskKind.UPLOAD, spec.key), self._task(spec, specs, (layer_task, *needs))

    def _task(self, spec: Spec, others: Collection[Spec], needs: tuple[TaskId, ...]) -> Task:
        def is_late() -> bool:
            is_last = all(other.key in self._results for other in others)  # the push comes next
            size = sum(blob.size for blob in self._results[spec.key].blobs)
            made = all(blob.is_made for blob in self._results[spec.key].blobs)
            return is_last or self.failed or not made or size < MIN_UPLOAD_BYTES

        def needless() -> bool:
            return is_late() and not self._streams.has(spec.key)

        def action() -> Outcome:
            if self._streams.finish(spec.key):
                digests = [blob.digest for blob in self._results[spec.key].blobs]
                self.uploaded += digests
                return Outcome(size=sum(blob.size for blob in self._results[spec.key].blobs))
            size = 0 if is_late() else self._upload(spec)
            return Outcome(size=size, note="left to the push at the end" if self.failed else "")

        return Task(name=spec.name, phase="push", lane=Lane.UP, action=action, needs=needs, is_needless=needless)

    def _upload(self, spec: Spec) -> int:
        """Return the number of bytes that went up."""
        layers = tuple(Layer(blob=blob, history=spec.history) for blob in self._results[spec.key].blobs)
        # No registry has a config without an architecture. If it had this one, skopeo would tag the manifest.
        image = Image(layers=layers, config=Config(), arch="")
        try:
            with self._blobs.working_folder() as folder:
                write_layout(folder, image.oci_manifest())
                link_layers(folder, image, self._blobs)
                details = PushDetails(mounts=self._find_mount, report=self._progress(spec.name))
                uploaded = self._registries.send(folder, self._ref, details)
        except (RegistryError, LostError):
            self.failed = True
            return 0
        self.uploaded += uploaded
        return sum(layer.blob.size for layer in layers if layer.blob.digest in uploaded)


def link_layers(folder: Path, image: Image, blobs: Blobs) -> None:
    """Link the layers that the cache has into a ``dir:`` layout; the registry is expected to have the others."""
    for blob in dict.fromkeys(layer.blob for layer in image.layers):
        if blobs.has(blob.digest, blob.size):
            (folder / blob.digest.hex).symlink_to(blobs.path(blob.digest))
