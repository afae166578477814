"""The project that builds what watches: it comes with this package, and is laid out in the user's state folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from buildkit.store.ledger_key import key_file

_PACKAGED = (("buildkit.observe", "project", ""), ("buildkit", "monitor", "code/buildkit/monitor"))
_UNUSED = 30 * 86_400  # seconds until a layout that nobody uses is removed
_MARK = "code/buildkit/__init__.py"  # of the package that the monitor runs, which is a part of this one


def ensure_stack_project() -> Path:
    """Return the folder of the project. It is named by what it holds, so nothing in it ever changes.

    That of another version stays as long as somebody uses it: it may be building from it now.
    """
    files = dict(sorted(_files()))
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = key_file().parent / "observe" / f"project-{digest.hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent):
        if not folder.is_dir():
            _lay_out(files, folder)
        os.utime(folder)
        for old in folder.parent.glob("project-*"):
            if (old / _MARK).is_file() and time.time() - old.stat().st_mtime > _UNUSED:  # others may be called so
                shutil.rmtree(old, ignore_errors=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the layouts, so that none is removed between the look for it and the note that it is used."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _lay_out(files: Mapping[str, bytes], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        new = Path(made) / "new"
        for name, content in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        new.rename(folder)


def _files() -> Iterator[tuple[str, bytes]]:
    yield _MARK, b""
    for package, name, target in _PACKAGED:
        yield from _walk(resources.files(package) / name, target)


def _walk(folder: Traversable, target: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        path = f"{target}/{entry.name}".lstrip("/")
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _walk(entry, path)
        elif not entry.name.endswith(".pyc"):
            yield path, entry.read_bytes()
