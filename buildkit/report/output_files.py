"""Files that the user asked for: checked before the work, and written wholly or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit.errors import BuildError, DefinitionError, describe_disk_error


def check_writable(path: Path) -> None:
    """Raise DefinitionError for a file that cannot be written, before there is anything to write."""
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise DefinitionError(f"{path}: this file cannot be written", hint="name one in a folder that exists")


def write_text(path: Path, text: str, *, append: bool = False) -> None:
    """Write, or add to, a file that was asked for, wholly or not at all.

    Raises BuildError where the disk is full, else DefinitionError where it cannot be.
    """
    try:
        if append or (path.exists() and not path.is_file()) or path.is_symlink():  # a device or a pipe has no beside
            with path.open("a" if append else "w", encoding="utf-8") as file:
                file.write(text)
        else:
            _write_beside(path, text)
    except OSError as error:
        if trouble := describe_disk_error(error):
            raise BuildError(f"{path}: {trouble}", hint="free some room, or name another file") from error
        raise DefinitionError(f"{path}: {error.strerror}", hint="name a file that can be written") from error


def _write_beside(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        new.write_text(text, "utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
