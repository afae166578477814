"""Make what several files of tests need once, for all processes of the suite."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all processes of this run of the suite share."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the path ``name`` in the shared folder: the first process has ``make`` write it, the others wait."""
    return _make(shared_folder(factory) / name, make)


def make_kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return a path beside temporary files that stays for later runs of the suite, and is made as by `make_once`."""
    return _make(Path(tempfile.gettempdir()) / f"buildkit-tests-{os.geteuid()}-{name}", make)


def _make(path: Path, make: Callable[[Path], None]) -> Path:
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            new = path.with_name(f"new-{path.name}")
            shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
            make(new)
            new.rename(path)
    return path
