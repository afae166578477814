"""Layers into a registry, while others are still made.

They go up without a manifest, so nothing names them, and a build that fails leaves nothing behind but blobs that the
registry collects. The push at the end finds them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from buildkit.cache.blobs import Blobs
from buildkit.declare.stage import Config
from buildkit.digest import Digest
from buildkit.engine.assemble import assemble
from buildkit.engine.scheduler import Lane, Outcome, Task
from buildkit.engine.shop import Shop
from buildkit.errors import LostError, RegistryError
from buildkit.oci.image import Image
from buildkit.oci.ref import Ref
from buildkit.plan.plan import Plan
from buildkit.plan.spec import Spec
from buildkit.tools.registry import Patience, Registries
from buildkit.tools.skopeo import write_layout

WORTH = 8 << 20
"""Bytes of a layer that are worth a skopeo of its own, which takes a tenth of a second whatever it sends."""


class Sender:
    """Sends what a plan builds to ``ref``. Whatever fails is left to the push at the end, which says why.

    ``sent`` are the blobs that went up; nothing more goes up where it has ``failed``.
    """

    def __init__(self, shop: Shop, plan: Plan, ref: Ref, registries: Registries) -> None:
        self._shop = shop
        self._built = [entry.spec for entry in plan.missing]
        self._ref = ref
        self._registries = replace(registries, patience=Patience(waits=()))
        self.failed = False
        self.sent: list[Digest] = []

    def tasks(self, making: Mapping[str, Task], *needs: str) -> Iterator[tuple[str, Task]]:
        """What to do besides ``making``, the tasks by which layers come to be, and after ``needs``."""
        for spec in self._built:
            if (layer := f"layer:{spec.key.hex}") in making:
                yield f"send:{spec.key.hex}", self._task(spec, (layer, *needs))

    def _task(self, spec: Spec, needs: tuple[str, ...]) -> Task:
        def needless() -> bool:
            made = self._shop.made
            last = all(other.key in made for other in self._built)  # the push is next
            return last or self.failed or sum(blob.size for blob in made[spec.key].blobs) < WORTH

        def action() -> Outcome:
            arch = self._shop.project.target.deb_arch
            size = self._send(assemble((spec,), Config(), self._shop.made, arch))
            return Outcome(size=size, note="left to the push at the end" if self.failed else "")

        return Task(name=spec.name, phase="push", lane=Lane.UP, action=action, needs=needs, needless=needless)

    def _send(self, image: Image) -> int:
        """Returns the bytes that went up."""
        try:
            with self._shop.blobs.working_folder() as folder:
                write_layout(folder, image.oci_manifest())
                link_layers(folder, image, self._shop.blobs)
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
