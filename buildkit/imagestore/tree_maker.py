"""A layer's tar becomes a tree of files and a tar-split file, in one pass: together they are the tar.

The bytes are pushed, in blocks of about a mebibyte. Nothing is hashed here but the CRC-64 of each file, which the
tar-split format wants: who writes the tar knows its SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fastcrc import crc64

from buildkit.errors import BuildError
from buildkit.imagestore.tar_split import TarSplitWriter
from buildkit.imagestore.tree_facts import FACTS, TAR_SPLIT, TREE, TreeFacts
from buildkit.imagestore.tree_paths import normalise
from buildkit.imagestore.tree_writer import TreeWriter
from buildkit.layers.tar.blob_stream import TarPiece
from buildkit.layers.tar.parser import FILE, LayerMember, TarParser
from buildkit.layers.tar.sparse import SparsePlacer


class TreeMaker:
    """Takes a tar in pieces, and writes ``tree`` and ``tar-split.gz`` into ``folder``; a context manager.

    ``owners``: set the owners of files, as root may; without, a member of another owner than root is an error.
    ``rootless``: for mounts in a user namespace.
    """

    def __init__(self, folder: Path, *, owners: bool, rootless: bool, what: str = "the layer") -> None:
        self._folder = folder
        self._what = what
        (folder / TREE).mkdir(0o700)
        os.chown(folder / TREE, -1, os.getegid())  # a folder above with the setgid bit would give files its group
        (folder / TREE).chmod(0o700)
        self._split_file = (folder / TAR_SPLIT).open("xb")
        self._split = TarSplitWriter(self._split_file)
        self._tree = TreeWriter(folder / TREE, owners=owners, rootless=rootless, what=what)
        self._parser = TarParser(self, what)
        self._file = -1
        self._clone: Path | None = None
        self._path = b""
        self._member: LayerMember | None = None
        self._placer: SparsePlacer | None = None
        self._crc = 0
        self._uids: set[int] = set()
        self._gids: set[int] = set()
        self._members = 0
        self._unpacked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tree.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        with suppress(OSError):  # a full disk: an error has said so, or nothing was kept
            self._split_file.close()

    def write(self, block: bytes) -> int:
        """Take the next bytes of the tar. Raises BuildError for a damaged or hostile tar, OSError."""
        self.take((TarPiece(block),))
        return len(block)

    def take(self, pieces: Iterable[TarPiece]) -> None:
        """Take the next pieces of the tar, as `write` does; what a piece says of its header is not read again."""
        try:
            for data, member, clone in pieces:
                self._unpacked += len(data)
                if member is None:
                    self._parser.feed(data)
                else:
                    self._clone = clone
                    self._parser.take(data, member)
        except ValueError as error:
            raise BuildError(f"{self._what} is damaged: {error}") from error
        except OSError as error:
            raise self._tree.refused(self._path, error) from error

    def finish(self) -> TreeFacts:
        """End the tree, and return its facts, which are written as well."""
        self._parser.finish()
        self._split.close()
        self._split_file.close()
        self._tree.finish()
        facts = TreeFacts(
            unpacked=self._unpacked,
            members=self._members,
            uids=tuple(sorted(self._uids | {0})),
            gids=tuple(sorted(self._gids | {0})),
            plain=self._tree.plain and self._uids <= {0} and self._gids <= {0},
        )
        (self._folder / FACTS).write_bytes(facts.to_json())
        return facts

    # what the parser finds

    def start(self, member: LayerMember) -> None:
        """Make a member, or open its file."""
        self._member = None
        path = self._locate(member.path)
        if path is None:
            return
        self._members += 1
        self._uids.add(member.uid)
        self._gids.add(member.gid)
        if member.kind != FILE:
            self._tree.make(path, member)
            return
        if not path:
            raise BuildError(f"{self._what}: a file without a name")
        self._file = self._tree.create(path) if self._clone is None else self._tree.adopt(path, self._clone)
        self._path, self._member, self._crc = path, member, 0
        self._placer = SparsePlacer(member.sparse, member.size) if member.sparse else None

    def _locate(self, name: bytes) -> bytes | None:
        """Return where a member belongs, None for a whiteout, which is made."""
        try:
            path = normalise(name)
            return None if self._tree.white_out(path) else self._tree.locate(path)
        except ValueError as error:
            text = repr(name.decode("utf-8", "backslashreplace"))[:300]
            raise BuildError(f"{self._what}: {text} {error}") from error

    def content(self, data: memoryview) -> None:
        """Write content to the file, or keep it in the tar-split file."""
        if self._member is None:
            self._split.segment(data)
        elif self._placer is not None:
            self._split.segment(data)
            for offset, piece in self._placer.place(data):
                _write_all(self._file, piece, offset)
        else:
            self._crc = crc64.go_iso(data, self._crc)
            if self._clone is None:
                _write_all(self._file, data)

    def end(self) -> None:
        """Complete the file."""
        member = self._member
        if member is None:
            return
        if member.sparse is not None and self._placer is not None:
            self._placer.finish()
            os.ftruncate(self._file, member.sparse.size)
        elif member.size:
            self._split.file(self._path, member.size, self._crc)
        self._tree.complete(self._file, self._path, member)
        os.close(self._file)
        self._file, self._member = -1, None

    def raw(self, data: memoryview | bytes) -> None:
        """Keep bytes between contents."""
        self._split.segment(data)


def _write_all(file: int, data: memoryview, offset: int | None = None) -> None:
    """Write everything: a nearly full disk, or a signal, ends a write(2) early."""
    while data:
        written = os.write(file, data) if offset is None else os.pwrite(file, data, offset)
        data = data[written:]
        offset = None if offset is None else offset + written
