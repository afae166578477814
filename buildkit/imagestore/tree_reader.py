"""A layer's tar, made again from its tree and its tar-split file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastcrc import crc64

from buildkit.errors import DamagedError
from buildkit.imagestore.tar_split import SplitFile, read_tar_split

_BLOCK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in a file's place must not block


def read_tree(tree: Path, tar_split: Path) -> Iterator[bytes]:
    """Yield the tar in pieces of about a mebibyte. Raises DamagedError, which names the file, if one was altered."""
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        waiting: list[bytes] = []
        size = 0
        for piece in _pieces(root, tree.name, tar_split):
            waiting.append(piece)
            size += len(piece)
            if size >= _BLOCK:
                yield b"".join(waiting)
                waiting, size = [], 0
        yield b"".join(waiting)
    finally:
        os.close(root)


def _pieces(root: int, name: str, tar_split: Path) -> Iterator[bytes]:
    try:
        with tar_split.open("rb") as file:
            for entry in read_tar_split(file):
                if isinstance(entry, SplitFile):
                    yield from _content(root, name, entry)
                else:
                    yield entry
    except FileNotFoundError as error:
        raise _damaged(name, tar_split.name, "is gone") from error
    except ValueError as error:
        raise _damaged(name, tar_split.name, str(error)) from error


def _content(root: int, name: str, entry: SplitFile) -> Iterator[bytes]:
    """Yield a file's content; its last piece comes after size and checksum have been compared."""
    path = entry.path.decode("utf-8", "backslashreplace")
    try:
        file = os.open(entry.path, _READ, dir_fd=root)
    except OSError as error:
        raise _damaged(name, path, f"cannot be read: {error.strerror}") from error
    try:
        crc, left = 0, entry.size
        while left:
            piece = os.read(file, min(left, _BLOCK))
            if not piece:
                raise _damaged(name, path, f"is {left} bytes too short")
            crc = crc64.go_iso(piece, crc)
            left -= len(piece)
            if not left and (crc != entry.crc or os.read(file, 1)):
                raise _damaged(name, path, "has other content")
            yield piece
    except OSError as error:
        raise _damaged(name, path, f"cannot be read: {error.strerror}") from error
    finally:
        os.close(file)


def _damaged(name: str, path: str, why: str) -> DamagedError:
    return DamagedError(
        f"the image store has a damaged layer {name[:12]}: {path} {why}",
        digests=(name,),
        hint="build again: it is replaced; `nox -s cache -- verify` examines every layer",
    )
