"""The trees of an image store: one for each layer, named by its diff_id.

``HEX`` is the tree, ``HEX.tar-split.gz`` what else the layer's tar has, and ``HEX.json`` the facts, which come last: a
tree without them is not believed, whether it is incomplete or was found damaged, and the next writer replaces it. What
was replaced stays as ``HEX.replaced-…``, because a container that runs has its files. A tree is written below ``tmp``,
where its writer holds a lock.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from buildkit.digest import DiffId
from buildkit.errors import BuildError, DamagedError
from buildkit.imagestore.tree_facts import FACTS, TAR_SPLIT, TREE, TreeFacts
from buildkit.store.file_locks import locked_temporary_folder, remove_abandoned, remove_folder

if TYPE_CHECKING:
    from buildkit.layers.tar.blob_stream import TarPiece
    from buildkit.store.file_clone import FileClone

_TAR_SPLIT_SUFFIX, _FACTS_SUFFIX = ".tar-split.gz", ".json"
_REPLACED = ".replaced-"
_FOLDER = re.compile(rf"[0-9a-f]{{64}}({re.escape(_REPLACED)}[0-9a-f]+)?")
_SUFFIXES = (_FACTS_SUFFIX, "", _TAR_SPLIT_SUFFIX)


class _Maker(Protocol):
    def take(self, pieces: Sequence[TarPiece], /) -> None: ...

    def finish(self) -> TreeFacts: ...


class TreeSink:
    """Takes a layer's tar in pieces; `keep` gives the tree its name."""

    def __init__(self, trees: TreeFolder, folder: Path, maker: _Maker) -> None:
        self._trees = trees
        self._folder = folder
        self._maker = maker
        self._clones = count()

    def find_clone(self, original: Path) -> FileClone | None:
        """Return a clone of a file, for the tree to take; None where there can be none."""
        from buildkit.store.file_clone import find_clone  # few builds pack a large file

        return find_clone(original, self._folder / f"clone-{next(self._clones)}")

    def take(self, pieces: Sequence[TarPiece], /) -> None:
        """Take the next pieces of the tar. Raises BuildError for a damaged or hostile one, OSError."""
        self._maker.take(pieces)

    def keep(self, diff_id: DiffId, unpacked: int) -> None:
        """Name the tree; the caller has hashed the ``unpacked`` bytes that it wrote. Raises BuildError."""
        facts = self._maker.finish()
        if facts.unpacked != unpacked:
            raise BuildError(f"the tree of layer {diff_id.short} has {facts.unpacked} bytes of tar, not {unpacked}")
        self._trees.name(self._folder, diff_id)


class TreeFolder:
    """The folder of trees; ``rootless``: of an ordinary user, whose containers run in a user namespace."""

    def __init__(self, folder: Path, temporary: Path, *, rootless: bool) -> None:
        self.folder = folder
        self._temporary = temporary
        self._rootless = rootless

    def path(self, diff_id: DiffId) -> Path:
        """Return where the tree is, or would be."""
        return self.folder / diff_id.hex

    def tar_split_path(self, diff_id: DiffId) -> Path:
        """Return where its tar-split file is, or would be."""
        return self.folder / f"{diff_id.hex}{_TAR_SPLIT_SUFFIX}"

    def has(self, diff_id: DiffId) -> bool:
        """Return whether there is such a tree, with its tar-split file and facts; none is read."""
        tree = f"{self.folder}/{diff_id.hex}"
        return all(os.path.exists(tree + suffix) for suffix in _SUFFIXES)  # noqa: PTH110 - for every layer

    def is_known(self, diff_id: DiffId) -> bool:
        """Return whether there are facts of a tree, which may be lost or damaged."""
        return self._facts_path(diff_id).exists()

    def all(self) -> dict[DiffId, float]:
        """Return every tree, with the time at which it was written, in seconds since the epoch."""
        found = {}
        for path in self.folder.glob(f"*{_FACTS_SUFFIX}"):
            with suppress(FileNotFoundError, ValueError):  # removed meanwhile; not ours
                found[DiffId(path.name.removesuffix(_FACTS_SUFFIX))] = path.stat().st_mtime
        return found

    def facts(self, diff_id: DiffId) -> TreeFacts:
        """Return what is known of a tree.

        Raises OSError, and DamagedError if that is damaged.
        """
        try:
            return TreeFacts.from_json(self._facts_path(diff_id).read_bytes())
        except ValueError as error:
            message = f"what the image store knows of layer {diff_id.short} is damaged"
            raise DamagedError(message, digests=(diff_id.hex,), hint="build again to rebuild it") from error

    def _facts_path(self, diff_id: DiffId) -> Path:
        return self.folder / f"{diff_id.hex}{_FACTS_SUFFIX}"

    @contextmanager
    def writing(self, *, foreign_owners: bool) -> Iterator[TreeSink]:
        """Open the sink of a tree, which is removed at the end unless it was kept.

        ``foreign_owners``: files may belong to others than root; an ordinary user's are then written in a user
        namespace, by another process.
        """
        with locked_temporary_folder(self._temporary) as folder:
            if foreign_owners and self._rootless:
                from buildkit.imagestore.tree_process import start_tree_process  # a build that packs nothing loads none

                try:
                    with start_tree_process(folder) as process:
                        yield TreeSink(self, folder, process)
                finally:
                    self.discard(folder / TREE)
            else:
                from buildkit.imagestore.tree_maker import TreeMaker

                with TreeMaker(folder, owners=not self._rootless, rootless=self._rootless) as maker:
                    yield TreeSink(self, folder, maker)

    def name(self, made: Path, diff_id: DiffId) -> None:
        """Give what was made in a temporary folder its names, the facts last; another process may have been faster."""
        if self.has(diff_id):
            return
        (made / TAR_SPLIT).replace(self.tar_split_path(diff_id))
        try:
            (made / TREE).rename(self.path(diff_id))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            from buildkit.imagestore.exchange import exchange

            exchange(made / TREE, self.path(diff_id))  # an incomplete or damaged one
            (made / TREE).rename(self.folder / f"{diff_id.hex}{_REPLACED}{os.urandom(4).hex()}")
        (made / FACTS).replace(self._facts_path(diff_id))

    def distrust(self, diff_id: DiffId) -> None:
        """Take the facts away from a tree, so that it is written again; images and containers keep its files."""
        self._facts_path(diff_id).unlink(missing_ok=True)

    def remove(self, diff_ids: Iterable[DiffId]) -> None:
        """Remove trees; each loses its names first, so that nobody sees a part of it."""
        for diff_id in diff_ids:
            self.distrust(diff_id)
            self.tar_split_path(diff_id).unlink(missing_ok=True)
            self._remove_folder(self.path(diff_id))

    def find_distrusted(self) -> tuple[str, ...]:
        """Return the names of trees that are not believed, and of those that were replaced."""
        folders = {path.name for path in self.folder.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()}
        return tuple(sorted(folders - {diff_id.hex for diff_id in self.all()}))

    def remove_distrusted(self, names: Iterable[str], used: Collection[DiffId], *, replaced: bool) -> None:
        """Remove such trees, except those of layers that are ``used``; if ``replaced``, also those that were."""
        for name in names:
            if _REPLACED not in name:
                self.remove({DiffId(name)} - {*used, *self.all()})
            elif replaced:
                self._remove_folder(self.folder / name)

    def _remove_folder(self, path: Path) -> None:
        with locked_temporary_folder(self._temporary) as folder:
            with suppress(FileNotFoundError):
                path.rename(folder / TREE)
            self.discard(folder / TREE)

    def sweep(self) -> None:
        """Remove what dead processes were writing."""
        remove_abandoned(self._temporary.iterdir(), self.discard)

    def discard(self, folder: Path) -> None:
        """Remove a folder that has no name any more; without root, what others own is removed in the namespace."""
        remove_folder(folder)
        if self._rootless and folder.exists():
            from buildkit.imagestore.tree_process import remove_in_namespace

            remove_in_namespace((folder,))
