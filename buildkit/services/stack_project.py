"""The project that builds what watches: it comes with this package, and is laid out in the user's state folder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from buildkit.store.ledger_key import key_file

_PACKAGED = (("buildkit.observe", "project", ""), ("buildkit", "monitor", "code/buildkit/monitor"))
_MARK = "code/buildkit/__init__.py"  # of the package that the monitor runs, which is a part of this one


def ensure_stack_project() -> Path:
    """Return the folder of the project. It is named by what it holds, so nothing in it ever changes."""
    files = dict(sorted(_files()))
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = key_file().parent / "observe" / f"project-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            new = Path(made) / "new"
            for name, content in files.items():
                path = new / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            try:
                new.rename(folder)
            except OSError:  # another process was faster
                if not folder.is_dir():
                    raise
        for old in folder.parent.glob("project-*"):
            if old != folder and (old / _MARK).is_file():  # a user's project may be called so
                shutil.rmtree(old, ignore_errors=True)
    return folder


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
