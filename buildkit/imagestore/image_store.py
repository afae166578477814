"""The image store: a folder that podman, buildah and skopeo read as an additional image store.

It is laid out as containers-storage.conf(5) expects of ``additionalimagestores``: ``overlay/ID`` has for each layer, in
its place above others, a link to its tree; ``overlay-layers`` and ``overlay-images`` hold the records. A layer's files
are stored once, in ``trees``, however many images and chains have it. An image appears when its record does, after
everything that it refers to; records are replaced as containers-storage does it, so that a reader never sees half.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

from buildkit.digest import DiffId
from buildkit.errors import BuildError, DamagedError
from buildkit.imagestore.after_crash import distrust_lost_trees, has_booted, remember_boot
from buildkit.imagestore.image_records import ImageRecords, StoreImage
from buildkit.imagestore.layer_chain import chain_ids
from buildkit.imagestore.layer_records import LayerRecords, StoreLayer
from buildkit.imagestore.storage_lock import replace_file
from buildkit.imagestore.trees import TreeFolder, TreeSink
from buildkit.oci.image import Image
from buildkit.store.file_locks import disk_errors_explained
from buildkit.store.private_folder import ensure_private

VARIABLE = "BUILDKIT_STORE"
VERSION = 1
_FOLDERS = ("trees", "tmp", "overlay", "overlay/l", "overlay-layers", "overlay-images")


class ImageStore:
    """An image store at ``folder``. Any number of processes may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rootless = os.geteuid() != 0
        real = Path(os.path.realpath(folder))  # links lead to it
        self.trees = TreeFolder(real / "trees", real / "tmp", rootless=self._rootless)
        self._layers = LayerRecords(folder, self.trees)
        self._images = ImageRecords(folder / "overlay-images")

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a store, or make it. Raises BuildError if it cannot be used: the message says why."""
        with disk_errors_explained(folder, VARIABLE):
            ensure_private(folder, _FOLDERS, "image store", VARIABLE)
            place = _ensure_layout(folder)
            store = cls(folder)
            if place != os.path.realpath(folder):  # somebody has moved it
                store.mend_records()
                _write_version(folder)
            if has_booted(folder / "boot"):
                distrust_lost_trees(store.trees, store.find_alteration)
                store.mend_records()
                remember_boot(folder / "boot")
        return store

    def explaining(self) -> AbstractContextManager[None]:
        """Raise BuildError, which names the store, for a disk that is full or read-only in the block."""
        return disk_errors_explained(self.folder, VARIABLE)

    # layers

    def has_tree(self, diff_id: DiffId) -> bool:
        """Return whether the store has the files of a layer; they are not read."""
        return self.trees.has(diff_id)

    def is_damaged(self, diff_id: DiffId) -> bool:
        """Return whether a layer's files were found damaged, or are incomplete; they are not read."""
        return not self.has_tree(diff_id) and self.trees.path(diff_id).exists()

    @contextmanager
    def writing_tree(self, *, foreign_owners: bool) -> Iterator[TreeSink]:
        """Open the sink of a tree, which is removed at the end unless it was kept.

        ``foreign_owners``: files may belong to others than uid 0. Raises BuildError for a hostile tar or a full disk.
        """
        with self.explaining(), self.trees.writing(foreign_owners=foreign_owners) as sink:
            yield sink

    def open_tar(self, diff_id: DiffId) -> Iterator[bytes]:
        """Yield a layer's tar in pieces.

        Raises DamagedError if a file was altered, FileNotFoundError if there is no tree.
        """
        from buildkit.imagestore.tree_process import (
            read_in_namespace,  # a build that reads no layer loads none of these
        )
        from buildkit.imagestore.tree_reader import read_tree

        tree, tar_split = self.trees.path(diff_id), self.trees.tar_split_path(diff_id)
        read = read_in_namespace if self._needs_namespace(diff_id) else read_tree
        return self._distrusting(diff_id, read(tree, tar_split))

    def _distrusting(self, diff_id: DiffId, tar: Iterator[bytes]) -> Iterator[bytes]:
        """Pass a tar on; a tree that turns out to be damaged is written again by the next build."""
        try:
            yield from tar
        except DamagedError:
            self.trees.distrust(diff_id)
            raise

    def size_of(self, diff_id: DiffId) -> int:
        """Return the bytes of a layer's tar, 0 if there is no tree; its files take about as much."""
        try:
            return self.trees.facts(diff_id).unpacked
        except (OSError, DamagedError):
            return 0

    def find_alteration(self, diff_id: DiffId) -> str:
        """Read a tree again; return what was altered (``etc/passwd has other content``), empty if nothing was.

        Raises FileNotFoundError if there is no tree.
        """
        from buildkit.imagestore.tree_check import find_alteration
        from buildkit.imagestore.tree_process import find_alteration_in_namespace

        tree, tar_split = self.trees.path(diff_id), self.trees.tar_split_path(diff_id)
        try:
            if self.trees.is_known(diff_id):
                self.trees.facts(diff_id)
            look = find_alteration_in_namespace if self._needs_namespace(diff_id) else find_alteration
            return look(tree, tar_split)
        except FileNotFoundError:
            if not self.trees.is_known(diff_id):  # who removes a tree takes its facts first
                raise
            return f"its {'tar-split file' if tree.exists() else 'folder'} is gone"
        except DamagedError as error:
            return error.message

    # images

    def put_image(self, image: Image, names: tuple[str, ...]) -> str:
        """Add an image whose trees are here, and move ``names`` (``localhost/app:latest``) to it; return its id.

        Raises LostError if a tree is missing, DamagedError if one is damaged, BuildError for a full disk.
        """
        diff_ids = tuple(layer.blob.diff_id for layer in image.layers)
        with self.explaining():
            self._layers.add(diff_ids)
            return self._images.put(image, chain_ids(diff_ids)[-1], names)

    def has_image(self, image: Image, name: str) -> bool:
        """Return whether the tools find an image under a name, with all of it except the contents of trees."""
        diff_ids = tuple(layer.blob.diff_id for layer in image.layers)
        return self._images.has(image, (name,)) and self._layers.has(diff_ids) and all(map(self.has_tree, diff_ids))

    def find_image(self, name: str) -> StoreImage | None:
        """Return the image of that name or id."""
        return self._images.find(name)

    def images(self) -> tuple[StoreImage, ...]:
        """Return every image."""
        return self._images.all()

    def layers(self) -> dict[str, StoreLayer]:
        """Return every layer by its identifier in local storage."""
        return self._layers.all()

    def mend_records(self) -> None:
        """Make the folders of layers again, and drop damaged images."""
        self._layers.remake()
        self.drop_damaged_images()

    def drop_damaged_images(self) -> tuple[str, ...]:
        """Remove images whose manifest, config or layers' records are damaged or gone; return their names or ids."""
        return self._images.drop_damaged(self._layers.whole)

    def remove_names(self, names: Collection[str]) -> None:
        """Remove names of images; an image without one stays until `remove`."""
        self._images.remove_names(names)

    def remove(self, images: Collection[str], trees: Iterable[DiffId], used: Iterable[str]) -> tuple[DiffId, ...]:
        """Remove images, chains that no image has, and ``trees`` that no chain has; return the removed trees.

        ``used`` are identifiers of layers on which containers or images of the user's own storage stand: the caller
        asks for them while nobody can add some (`tools.storage`).
        """
        self._images.remove(images)
        tops = (*used, *(image.top_layer for image in self.images()))
        return self._layers.prune(tops, trees)

    def sweep(self) -> None:
        """Remove what dead processes were writing."""
        self.trees.sweep()

    def _needs_namespace(self, diff_id: DiffId) -> bool:
        return self._rootless and not self.trees.facts(diff_id).plain


def is_store(folder: Path) -> bool:
    """Return whether a folder is an image store, though it may be one that lost a part."""
    return any(os.path.exists(f"{folder}/{name}") for name in ("version", "overlay-images"))  # noqa: PTH110 - every build


def _ensure_layout(folder: Path) -> str:
    """Make a store unless there is one; return the place for which its links were made."""
    if not (folder / "version").exists():
        _make(folder)
        return os.path.realpath(folder)
    place = read_version(folder)
    _make_folders(folder)
    return place


def read_version(folder: Path) -> str:
    """Return the place for which the links of a store were made. Raises BuildError if it is none of this version."""
    version = folder / "version"
    try:
        number, _, place = version.read_text("ascii").partition("\n")
        found = int(number)
        if found < 1:
            raise ValueError(number)
    except (ValueError, IsADirectoryError) as error:
        hint = f"rm -r {shlex.quote(str(version))}; nox -s doctor -- --enable-store"
        raise BuildError(f"{version} is damaged: it names no version", hint=hint) from error
    if found > VERSION:
        raise BuildError(
            f"{folder}: the image store is of version {found}, and this buildkit knows version {VERSION}",
            hint=f"update buildkit; or use another store: {VARIABLE}=/path; or: nox -s doctor -- --disable-store",
        )
    return place.strip()


def _make(folder: Path) -> None:
    """Make an empty store; the version comes last."""
    # another process may be making it: its temporary files begin with a dot
    others = sorted(path.name for path in folder.iterdir() if path.name not in _OURS and path.name[0] != ".")
    if others:
        raise BuildError(
            f"{folder}: this is no image store: it has {', '.join(others[:3])}",
            hint=f"give it a folder of its own: {VARIABLE}={shlex.quote(str(folder / 'store'))}",
        )
    (folder / "storage.lock").touch(0o644)
    _make_folders(folder)
    _write_version(folder)


def _make_folders(folder: Path) -> None:
    """Make the folders of a store that are missing."""
    for name in _FOLDERS:
        if not os.path.isdir(f"{folder}/{name}"):  # noqa: PTH112 - runs in every build
            (folder / name).mkdir(mode=0o700, exist_ok=True)


def _write_version(folder: Path) -> None:
    replace_file(folder / "version", f"{VERSION}\n{os.path.realpath(folder)}\n".encode())


_OURS = {name.partition("/")[0] for name in _FOLDERS} | {
    "boot",
    "import.conf",
    "storage.conf",
    "storage.lock",
    "version",
}
