"""An image into a registry, straight from the blobs: only what the registry lacks is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from buildkit.build.context import BuildContext
from buildkit.digest import Digest
from buildkit.errors import DamagedError, RegistryError
from buildkit.oci.image import Image
from buildkit.oci.reference import Ref
from buildkit.plan.spec import Spec
from buildkit.remote.blob_upload import Sender, link_layers
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tools.registry import Patience, Registries
from buildkit.tools.skopeo import write_layout

_LITTLE = 1 << 20
_BRIEF = Patience(look=10.0, waits=())  # of what is done beside other work: it is done again if it fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did: the manifest's digest, and the bytes that went up."""

    digest: Digest
    size: int


class Push:
    """One image to one or more names in registries."""

    def __init__(self, context: BuildContext, refs: Sequence[Ref], registries: Registries) -> None:
        self._refs = refs
        self._blobs = context.blobs
        self._registries = registries
        self._found: dict[Ref, bytes | None] = {}
        self._brief = replace(registries, patience=_BRIEF)
        self._sender = None if context.remote_cache.writes else Sender(context, refs[0], self._brief)

    def tasks(self, building: Mapping[str, Spec]) -> Iterator[tuple[str, Task]]:
        """What to do while layers are built, by their tasks: ask what is named now, and send layers.

        But not where layers are shared: the registry takes them from there.
        """
        looks = {f"look:{ref}": self._look(ref) for ref in self._refs}
        yield from looks.items()
        if self._sender:
            yield from self._sender.tasks(building, *looks)

    def run(self, image: Image) -> Pushed:
        """Make every name name the image; nothing is sent to those that do.

        Raises BlobsMissingError for blobs that neither the registry nor the local cache has, DamagedError for those
        that were damaged in the cache (they are removed), RegistryError, ToolError or Interrupted.
        """
        manifest = image.oci_manifest()
        lacking = {ref: there for ref in self._refs if (there := self._find(ref, self._registries)) != manifest}
        early = self._sender.sent if self._sender else ()
        sent = {*early, *(self._push(image, lacking) if lacking else ())}
        sizes = {layer.blob.digest: layer.blob.size for layer in image.layers}
        size = len(manifest) * len(lacking) + (len(image.config_blob()) if lacking else 0)
        return Pushed(digest=Digest.of(manifest), size=size + sum(sizes.get(digest, 0) for digest in sent))

    def _look(self, ref: Ref) -> Task:
        def action() -> Outcome:
            try:
                self._find(ref, self._brief)
            except RegistryError:  # it is asked again when all else is done
                if self._sender:
                    self._sender.failed = True
            return Outcome()

        return Task(name=str(ref), phase="push", lane=Lane.NET, action=action, quiet=True)

    def _find(self, ref: Ref, registries: Registries) -> bytes | None:
        if ref not in self._found:
            try:
                self._found[ref] = registries.manifest(ref)
            except RegistryError as error:
                if not error.denied:
                    raise
                self._found[ref] = None  # some say so of what is not there yet; if we may not, pushing says it
        return self._found[ref]

    def _push(self, image: Image, lacking: Mapping[Ref, bytes | None]) -> tuple[Digest, ...]:
        """Push to ``lacking``, each with the manifest that is there; the blobs that went up."""
        sent: list[Digest] = []
        with self._blobs.working_folder() as folder:
            write_layout(folder, image.oci_manifest(), image.config_blob())
            link_layers(folder, image, self._blobs)
            for ref, there in lacking.items():
                try:
                    sent += self._registries.push(folder, ref, notes=_missing(image, there) > _LITTLE)
                except DamagedError as error:
                    self._blobs.drop_damaged(map(Digest, error.digests))
                    raise
        return tuple(sent)


def _missing(image: Image, found: bytes | None) -> int:
    """Bytes of the layers that the manifest under the tag does not name."""
    return sum(layer.blob.size for layer in image.layers if str(layer.blob.digest).encode() not in (found or b""))
