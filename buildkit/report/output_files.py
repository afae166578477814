"""Files that the user asked for: checked before the work, and written wholly or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit.errors import BuildError, DefinitionError, describe_disk_error


def check_writable(path: Path, *, append: bool = False) -> None:
    """Raise DefinitionError if `write_text` could not write a file, before the work for it begins."""
    target = path if path.exists() and (append or not _is_replaced(path)) else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(target, os.W_OK):
        raise DefinitionError(f"{path}: this file cannot be written", hint="name one in a folder that exists")


def read_document(path: Path) -> str:
    """Return the text of a document in which figures are to be written. Raises DefinitionError."""
    check_writable(path)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        hint = "name a document that has a place for the figures"
        raise DefinitionError(f"{path}: this document cannot be read: {why}", hint=hint) from error


def write_text(path: Path, text: str, *, append: bool = False) -> None:
    """Write, or append to, a file that the user named; a written file is complete or unchanged.

    Raises BuildError if the disk is full, and DefinitionError if the file cannot be written for another reason.
    """
    try:
        if append or not _is_replaced(path):
            with path.open("a" if append else "w", encoding="utf-8") as file:
                file.write(text)
        else:
            _replace(path, text)
    except OSError as error:
        if trouble := describe_disk_error(error):
            raise BuildError(f"{path}: {trouble}", hint="free some room, or name another file") from error
        raise DefinitionError(f"{path}: {error.strerror}", hint="name a file that can be written") from error


def _is_replaced(path: Path) -> bool:
    """Return whether a new file takes the name: not over a device or a link, which are written to."""
    return not path.is_symlink() and (path.is_file() or not path.exists())


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        new.write_text(text, "utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
