"""Layers into a registry, while others are still made.

They go up without a manifest, so nothing names them, and a build that fails leaves nothing behind but blobs that the
registry collects. The push at the end finds them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from buildkit.build.assemble import assemble
from buildkit.build.context import BuildContext
from buildkit.declare.stage import Config
from buildkit.digest import Digest
from buildkit.errors import LostError, RegistryError
from buildkit.oci.image import Image
from buildkit.oci.reference import Ref
from buildkit.plan.spec import Spec
from buildkit.store.blobs import Blobs
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tools.registry import Registries
from buildkit.tools.skopeo import write_layout

WORTH = 8 << 20
"""Bytes of a layer that are worth a skopeo of its own, which takes a tenth of a second whatever it sends."""


class Sender:
    """Sends layers to ``ref``. Whatever fails is left to the push at the end, which says why.

    ``sent`` are the blobs that went up; nothing more goes up where it has ``failed``.
    """

    def __init__(self, context: BuildContext, ref: Ref, registries: Registries) -> None:
        self._context = context
        self._ref = ref
        self._registries = registries
        self.failed = False
        self.sent: list[Digest] = []

    def tasks(self, building: Mapping[str, Spec], *needs: str) -> Iterator[tuple[str, Task]]:
        """Send each layer that is built, by its task, when it is there; all after ``needs``."""
        specs = building.values()
        for layer, spec in building.items():
            yield f"send:{spec.key.hex}", self._task(spec, specs, (layer, *needs))

    def _task(self, spec: Spec, others: Iterable[Spec], needs: tuple[str, ...]) -> Task:
        def needless() -> bool:
            made = self._context.state.results
            last = all(other.key in made for other in others)  # the push is next
            return last or self.failed or sum(blob.size for blob in made[spec.key].blobs) < WORTH

        def action() -> Outcome:
            arch = self._context.project.target.deb_arch
            size = self._send(assemble((spec,), Config(), self._context.state.results, arch))
            return Outcome(size=size, note="left to the push at the end" if self.failed else "")

        return Task(name=spec.name, phase="push", lane=Lane.UP, action=action, needs=needs, needless=needless)

    def _send(self, image: Image) -> int:
        """Returns the bytes that went up."""
        try:
            with self._context.blobs.working_folder() as folder:
                write_layout(folder, image.oci_manifest())
                link_layers(folder, image, self._context.blobs)
                sent = self._registries.send(folder, self._ref)
        except (RegistryError, LostError):
            self.failed = True
            return 0
        self.sent += sent
        return sum(layer.blob.size for layer in image.layers if layer.blob.digest in sent)


def link_layers(folder: Path, image: Image, blobs: Blobs) -> None:
    """The layers of a ``dir:`` layout that are here; of others the registry is expected to have them."""
    for blob in dict.fromkeys(layer.blob for layer in image.layers):
        if blobs.has(blob.digest, blob.size):
            (folder / blob.digest.hex).symlink_to(blobs.path(blob.digest))
