"""Where finished images go: into the image store, which needs no import, or into the user's own local storage."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING

from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, DamagedError, DefinitionError, LostError, MismatchError
from buildkit.events import Emit, Note
from buildkit.imagestore.image_store import ImageStore, is_store
from buildkit.imagestore.store_folder import store_folder
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.image import Image, Layer
from buildkit.report.text import format_bytes
from buildkit.tools.storage_settings import invisible, is_listed, visible

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit.build.context import BuildContext
    from buildkit.declare.project import Project
    from buildkit.oci.blob import Blob

_VARIABLE = "BUILDKIT_DELIVERY"
_COVERS = 3  # an image with the name, then a record without one, and a last look


class Delivery(StrEnum):
    """The setting ``delivery``."""

    AUTO = "auto"
    """The image store if the user's podman sees it, else an import."""
    STORE = "store"
    IMPORT = "import"
    DOCKER = "docker"
    """A Docker engine; what containers of a build start from goes where it goes by ``AUTO``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """How an image went where its users find it (None: it did not), the bytes moved, and whether it was not there."""

    how: Delivery | None = None
    size: int = 0
    is_new: bool = False


@contextmanager
def open_delivery(delivery: Delivery, emit: Emit) -> Iterator[ImageStore | None]:
    """Open the image store that images are delivered into; None if they are imported.

    Programs that are started in the block see it. Raises BuildError if the store or storage.conf cannot be used.
    """
    folder = store_folder()
    is_seen = is_listed(folder)
    if is_seen and not is_store(folder):
        ImageStore.open(folder)  # every command of podman and buildah fails without the folder
    used = is_seen and delivery is not Delivery.IMPORT
    if delivery is Delivery.STORE and not used:
        why = find_obstacle(folder)
        used = not why
        if why:
            emit(Note(text=f"images are imported, not put into the image store: {why}", warning=True))
    if not used:
        with invisible(folder, folder / "import.conf"):
            yield None
        return
    store = ImageStore.open(folder)
    with visible(folder, folder / "storage.conf"):
        yield store


def find_obstacle(folder: Path) -> str:
    """Return why no image store at ``folder`` can serve the user's tools; empty if one can."""
    from buildkit.tools.file_system import describe_file_system, find_file_system
    from buildkit.tools.store_setting import plan_enabling

    try:
        plan_enabling(folder)
    except BuildError as error:
        return error.message
    return describe_file_system(find_file_system(folder))


def find_obstacle_of(image: Image, store: ImageStore) -> str:
    """Return why the tools could not mount an image of the store; empty if they can.

    Before 5, podman and its library mount only what a page of options can name.
    """
    from buildkit.imagestore.layer_chain import most_layers

    count, most = len(image.layers), most_layers(store.folder)
    if count <= most:
        return ""
    from buildkit.tools.podman import find_version

    if find_version() >= (5,):
        return ""
    return f"{count} layers, and this podman can mount {most} of {store.folder}: a shorter BUILDKIT_STORE takes more"


def describe_import(size: int, seconds: float) -> str:
    """Return the line on what the image store would have spared; empty if it could not serve here."""
    if find_obstacle(store_folder()):
        return ""
    return (
        f"{format_bytes(size)} were copied into local storage in {seconds:.1f} s, because podman does not see the "
        "image store; nox -s doctor -- --enable-store spares that"
    )


@contextmanager
def importing(context: BuildContext) -> Iterator[None]:
    """Let programs that are started in the block not see the image store, whatever the build uses."""
    store = context.image_store
    with invisible(store.folder, store.folder / "import.conf") if store else nullcontext():
        yield


def deliver(image: Image, ref: str, context: BuildContext) -> int:
    """Make ``ref`` name the image in the image store; return the bytes of trees that this has written.

    Raises LostError for layers that are not here, or whose blobs were damaged, and are removed now; BuildError.
    """
    store = context.image_store
    assert store is not None  # noqa: S101 - who imports does not deliver
    size = write_trees(image.layers, context)
    store.put_image(image, (ref,))
    return size


def uncover(image: Image, ref: str, context: BuildContext) -> None:
    """Let the tools find the image of the store, where the user's own storage, which they prefer, hides it.

    Another image there loses the name and stays. A record there of the same image without a name, as an import of
    before leaves it, is removed; one with names that the user gave gets this one, too, and the manifest with which
    podman reads HEALTHCHECK. Nothing is done if another process has moved the name in the store since. Raises
    BuildError if the image stays hidden.
    """
    from buildkit.build.deliver import find_visible, put_manifest

    store, own = context.image_store, Digest.of(image.config_blob()).hex
    assert store is not None  # noqa: S101 - who imports does not deliver
    for _ in range(_COVERS):
        found = find_visible(ref, store)
        if found is not None and found.manifest == image.docker_manifest():
            return
        named = store.find_image(ref)
        if named is None or named.manifest != image.docker_manifest():
            return
        from buildkit.tools.storage import find_names, remove_image, untag

        if found is None and not find_names(own):
            remove_image(own)
        elif found is None or found.is_copy(image):
            put_manifest(image, ref, context.blobs)
        else:
            untag(ref)
    raise BuildError(
        f"{ref}: your own storage hides the image of the image store",
        hint=f"podman untag {ref}; podman image prune",
    )


def is_whole(image: Image, ref: str, context: BuildContext) -> bool:
    """Return whether nothing is lost of an image that the tools find under ``ref``; true where images are imported."""
    store = context.image_store
    return store is None or store.has_image(image, ref) or bool(find_obstacle_of(image, store))


def distrust_trees(digests: Iterable[str], context: BuildContext) -> None:
    """Let damaged layers of the image store be written again; others of ``digests`` (hexadecimal) are ignored."""
    if context.image_store is not None:
        for digest in digests:
            context.image_store.trees.distrust(DiffId(digest))


def write_trees(layers: Iterable[Layer], context: BuildContext) -> int:
    """Unpack the layers that the image store lacks from their blobs; return their bytes."""
    store, size = context.image_store, 0
    assert store is not None  # noqa: S101 - who imports writes no trees
    for layer in layers:
        if not store.has_tree(layer.blob.diff_id):
            _write_tree(layer.blob, context, store)
            size += layer.blob.unpacked
    return size


def _write_tree(blob: Blob, context: BuildContext, store: ImageStore) -> None:
    if not context.layers.has_blob(blob):
        raise LostError(f"the layer {blob.digest.short} is gone from the cache", hint="build again to rebuild it")
    from buildkit.store.ingest import Unpacking  # few deliveries unpack anything

    try:
        with store.writing_tree(foreign_owners=True) as tree:
            Unpacking(context.layers.open_tar(blob), blob.digest).write_tree(tree, blob.diff_id)
    except MismatchError as error:
        damaged = context.blobs.drop_damaged([blob.digest])
        message = f"the cached layer {blob.digest.short} was damaged, and is removed"
        raise DamagedError(message, digests=tuple(d.hex for d in damaged), hint="build again") from error


def choose_delivery(option: str, project: Project) -> Delivery:
    """Return the delivery of the command line, else of the environment (``BUILDKIT_DELIVERY``), else of the settings.

    Raises DefinitionError for a variable that names none.
    """
    chosen = option or os.environ.get(_VARIABLE) or project.delivery
    if chosen not in {delivery.value for delivery in Delivery}:
        known = ", ".join(delivery.value for delivery in Delivery)
        raise DefinitionError(f"{_VARIABLE}={chosen}: there is no such delivery", hint=f"known: {known}")
    return Delivery(chosen)
