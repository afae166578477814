"""Files of a repository as members of a layer; of the mode only the executable bit is kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from buildkit.digest import FileHash
from buildkit.errors import BuildError, MismatchError, source_changed
from buildkit.layers.tar.member import Member

CHUNK = 1 << 20

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"  # how every pointer begins (git-lfs, docs/spec.md)


class CopiedFile(NamedTuple):
    """A file to pack: its path below the source, and its hash if that is known.

    A symbolic link stays a link unless it is ``followed``.
    """

    path: str
    executable: bool = False
    sha256: FileHash | None = None
    followed: bool = False


def file_members(source_root: Path, files: Sequence[CopiedFile], target: str) -> Iterator[Member]:
    """Yield members for ``files``, sorted by path, below ``target``.

    ``target`` is absolute in the image (``/app``). The path ``.`` means that ``source_root`` is one file, which becomes
    ``target``. A link that is not followed has the hash of its target's text. Raises
    BuildError for anything but a file or link, and MismatchError, at the latest while the content is read, if a file
    has changed since it was hashed.
    """
    folder = target.strip("/")
    for file in sorted(files, key=lambda file: file.path):
        is_source = file.path == "."
        place = folder if is_source else f"{folder}/{file.path}".lstrip("/")
        yield _member(source_root if is_source else source_root / file.path, place, file)


def read_file(path: Path) -> Iterator[bytes]:
    """Yield the content of ``path`` in chunks of a mebibyte.

    Raises MismatchError for a pointer of Git LFS, which stands for a file that was not fetched.
    """
    with path.open("rb", buffering=0) as file:
        chunk = file.read(CHUNK)
        if chunk.startswith(_LFS_POINTER):
            raise MismatchError(f"{path}: a pointer of Git LFS, not the file itself", hint="run: git lfs pull")
        while chunk:
            yield chunk
            chunk = file.read(CHUNK)


def _member(source: Path, place: str, file: CopiedFile) -> Member:
    try:
        status = source.stat() if file.followed else source.lstat()
    except OSError as error:
        raise BuildError(f"{source} cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(source)  # noqa: PTH115 - the target exactly as written
        if file.sha256 is not None and file.sha256 != FileHash.of(os.fsencode(target)):
            raise source_changed(source)
        return Member(path=place, kind="symlink", target=target)
    if not stat.S_ISREG(status.st_mode):
        raise BuildError(f"{source} is neither a file nor a symbolic link", hint="ignore it, or remove it")
    return Member(
        path=place,
        size=status.st_size,
        content=lambda: read_file(source),
        executable=file.executable,
        sha256=file.sha256,
        source=str(source),
        original=source,
    )
