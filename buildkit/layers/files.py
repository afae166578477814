"""Files of a repository as members of a layer; of the mode only the executable bit is kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from buildkit.digest import FileHash
from buildkit.errors import BuildError, source_changed
from buildkit.layers.tar.member import Member

CHUNK = 1 << 20

SourceFile = tuple[str, bool, FileHash | None]


def file_members(source_root: Path, files: Sequence[SourceFile], target: str) -> Iterator[Member]:
    """Yield members for ``files`` (path below ``source_root``, executable, hash if known), sorted, below ``target``.

    ``target`` is absolute in the image (``/app``). The path ``.`` means that ``source_root`` is one file, which becomes
    ``target``. Symbolic links stay links with the same target; their hash is that of the target's text. Raises
    BuildError for anything but a file or link, and MismatchError, at the latest while the content is read, if a file
    has changed since it was hashed.
    """
    folder = target.strip("/")
    for path, executable, sha256 in sorted(files, key=lambda file: file[0]):
        source = source_root if path == "." else source_root / path
        place = folder if path == "." else f"{folder}/{path}".lstrip("/")
        yield _member(source, place, executable=executable, sha256=sha256)


def read_file(path: Path) -> Iterator[bytes]:
    """Yield the content of ``path`` in chunks of a mebibyte."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _member(source: Path, place: str, *, executable: bool, sha256: FileHash | None) -> Member:
    try:
        status = source.lstat()
    except OSError as error:
        raise BuildError(f"{source} cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(source)  # noqa: PTH115 - the target exactly as written
        if sha256 is not None and sha256 != FileHash.of(os.fsencode(target)):
            raise source_changed(source)
        return Member(path=place, kind="symlink", target=target)
    if not stat.S_ISREG(status.st_mode):
        raise BuildError(f"{source} is neither a file nor a symbolic link", hint="ignore it, or remove it")
    return Member(
        path=place,
        size=status.st_size,
        content=lambda: read_file(source),
        executable=executable,
        sha256=sha256,
        source=str(source),
    )
