"""Files that a container reads from a folder of the host, written before it starts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.mounts import BindMount

_FOLDER, _FILE = 0o755, 0o644  # the container's user is another one


def ensure_mounted_files(environment: RunningEnvironment) -> None:
    """Write the folders of files that services mount; their names are those of their content.

    A container that is replaced keeps the folder that it has, and runs again with it if the new one fails.
    """
    for service in environment.services:
        for mount in _held(service):
            _write(Path(mount.source), mount.files)


def remove_old_files(environment: RunningEnvironment) -> None:
    """Remove folders of earlier contents, once the services run with the present ones."""
    for service in environment.services:
        for mount in _held(service):
            folder = Path(mount.source)
            for old in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)


def _held(service: RunningService) -> Iterator[BindMount]:
    yield from (mount for mount in service.container.mounts if isinstance(mount, BindMount) and mount.files)


def _write(folder: Path, files: tuple[tuple[str, str], ...]) -> None:
    if _is_whole(folder, files):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        new = Path(made) / "new"
        new.mkdir()
        new.chmod(_FOLDER)
        for name, text in files:
            (new / name).write_text(text, "utf-8")
            (new / name).chmod(_FILE)
        try:
            new.rename(folder)
        except OSError:  # another process was faster
            if not _is_whole(folder, files):
                raise


def _is_whole(folder: Path, files: tuple[tuple[str, str], ...]) -> bool:
    """Return whether a folder holds what its name says: a crash may have left empty files."""
    try:
        return all((folder / name).read_text("utf-8") == text for name, text in files)
    except (OSError, UnicodeDecodeError):
        return False
