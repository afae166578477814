"""Push an image to a registry, straight from the blobs: only what the registry lacks is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from buildkit.digest import Digest
from buildkit.errors import DamagedError, RegistryError
from buildkit.oci.image import Image
from buildkit.oci.reference import Ref
from buildkit.plan.spec import Spec
from buildkit.remote.blob_upload import LayerUpload, link_layers
from buildkit.store.blobs import Blobs
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId, TaskKind
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import write_layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The result of a push: the manifest's digest, the bytes that went up, and why skopeo did it, if it did."""

    digest: Digest
    size: int
    why_skopeo: str = ""


class Push:
    """One image to one or more names in registries: by tags, or by its digest where a reference has no tag.

    ``upload`` sends layers while others are built; None where they go to a remote cache, from which the registry
    mounts them. ``find_mount`` gives the path of another repository of the registry that may have a blob, or "".
    """

    def __init__(
        self,
        refs: Sequence[Ref],
        blobs: Blobs,
        registries: RegistryClient,
        upload: LayerUpload | None,
        find_mount: Callable[[Digest], str] = lambda _digest: "",
    ) -> None:
        self._refs = refs
        self._blobs = blobs
        self._registries = registries
        self._upload = upload
        self._find_mount = find_mount
        self._found: dict[Ref, Digest | None] = {}
        self._listed: dict[str, Set[Digest]] = {}  # by repository

    def tasks(self, building: Mapping[TaskId, Spec]) -> Iterator[tuple[TaskId, Task]]:
        """Yield tasks to run while layers are built: look up what each name has now, and upload layers.

        ``building`` maps the ids of the tasks that build layers to their specs.
        """
        lookups = {TaskId(TaskKind.LOOK_UP, str(ref)): self._lookup_task(ref) for ref in self._refs if ref.tag}
        yield from lookups.items()
        if self._upload:
            yield from self._upload.tasks(building, *lookups)

    def run(self, image: Image, report: Callable[[int], None]) -> Pushed:
        """Make every name refer to the image; nothing is sent to those that already do.

        ``report`` is called with the bytes that have been sent. Raises BlobsMissingError for blobs that neither the
        registry nor the local cache has, DamagedError for those that were damaged in the cache (they are removed),
        RegistryError, ToolError or Interrupted.
        """
        manifest = image.oci_manifest()
        digest = Digest.of(manifest)
        refs = [ref if ref.tag else replace(ref, digest=digest) for ref in self._refs]
        outdated = [ref for ref in refs if self._find(ref, self._registries) != digest]
        uploaded_early = self._upload.uploaded if self._upload else ()
        uploaded = {*uploaded_early, *(self._push(image, outdated, report) if outdated else ())}
        sizes = {layer.blob.digest: layer.blob.size for layer in image.layers}
        size = len(manifest) * len(outdated) + (len(image.config_blob()) if outdated else 0)
        return Pushed(
            digest=digest,
            size=size + sum(sizes.get(digest, 0) for digest in uploaded) + (self._upload.vain if self._upload else 0),
            why_skopeo=next(filter(None, map(self._registries.why_skopeo, outdated)), ""),
        )

    def _lookup_task(self, ref: Ref) -> Task:
        def action() -> Outcome:
            try:
                if self._find(ref, self._registries.without_retries()) and ref == self._refs[0]:
                    self._listed_blobs(ref)  # now, as the image is another one if layers are built
            except RegistryError:  # `run` looks again, and reports what fails
                if self._upload:
                    self._upload.failed = True
            return Outcome()

        return Task(name=str(ref), phase="push", lane=Lane.NET, action=action, quiet=True)

    def _find(self, ref: Ref, registries: RegistryClient) -> Digest | None:
        if ref not in self._found:
            try:
                self._found[ref] = registries.digest(ref)
            except RegistryError as error:
                if not error.denied:
                    raise
                self._found[ref] = None  # some registries deny what does not exist; if access is denied, the push fails
        return self._found[ref]

    def _listed_blobs(self, ref: Ref) -> Set[Digest]:
        """Return what the image lists that the name has now, or another of the names in its repository."""
        if ref.repository not in self._listed:
            names = (ref, *(other for other in self._refs if other.repository == ref.repository))
            digest = next(filter(None, map(self._found.get, names)), None)
            listed = self._registries.listed_blobs(replace(ref, digest=digest)) if digest else frozenset[Digest]()
            self._listed[ref.repository] = listed
        return self._listed[ref.repository]

    def _present_blobs(self, ref: Ref) -> Set[Digest]:
        """Return what is listed and what has gone up meanwhile; nothing where nothing is listed."""
        listed, early = self._listed_blobs(ref), self._upload.uploaded if self._upload else []
        return {*listed, *early} if listed and ref.repository == self._refs[0].repository else listed

    def _push(self, image: Image, refs: Sequence[Ref], report: Callable[[int], None]) -> tuple[Digest, ...]:
        """Push to each of ``refs``; return the digests that went up."""
        uploaded: list[Digest] = []
        config = image.config_blob()
        with self._blobs.working_folder() as folder:
            write_layout(folder, image.oci_manifest(), config)
            link_layers(folder, image, self._blobs)
            for ref in refs:
                details = PushDetails(mounts=self._find_mount, report=report, present=self._present_blobs(ref))
                try:
                    uploaded += self._registries.push(folder, ref, details)
                except DamagedError as error:
                    self._blobs.drop_damaged(map(Digest, error.digests))
                    raise
                self._listed[ref.repository] = {Digest.of(config), *(layer.blob.digest for layer in image.layers)}
        return tuple(uploaded)
