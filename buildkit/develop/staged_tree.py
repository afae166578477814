"""A folder that shows exactly the files that a layer of the image would have, kept up to date while people edit.

Files get their names when they are complete, so a reader sees the old file or the new one. A container has the folder
as a read-only mount: renames in it are seen at once, which a mount of a single file would hide.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from buildkit.develop.staging import StagedFile
from buildkit.errors import BuildError, describe_disk_error


class StagedTree:
    """The folder ``home``/tree, filled from the project; ``home``/new has files that are being written."""

    def __init__(self, project: Path, home: Path) -> None:
        self.folder = home / "tree"
        self._new = home / "new"
        self._project = project
        self._files: dict[str, StagedFile] = {}
        self._places: dict[str, str] = {}  # of plain files, by their path in the project
        self._sources: dict[str, str] = {}
        shutil.rmtree(home, ignore_errors=True)
        for folder in (self.folder, self._new):
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # whatever the umask: the container's user reads it

    def update(self, files: Mapping[str, StagedFile]) -> tuple[str, ...]:
        """Make the folder hold these files and no others; return the paths in it that changed, sorted.

        Raises BuildError for a full disk; the folder then holds old and new files, and the next update repairs it.
        """
        gone = [path for path in self._files if path not in files]
        changed = [path for path, file in files.items() if self._files.get(path) != file]
        if _meet(changed, self._files):  # a folder in the place of a file, or the other way round
            self._remove(gone)
        for path in changed:
            self._write(path, files[path])
        self._remove([path for path in gone if path in self._files])
        self._places = {file.source: path for path, file in self._files.items() if not file.link}
        return tuple(sorted({*gone, *changed}))

    def refresh(self, sources: Iterable[str]) -> tuple[str, ...] | None:
        """Take present contents of files by their paths in the project; return what changed in the folder.

        None if one of them is not a plain file of this tree as it was: then only ``update`` knows what to do.
        """
        found = {source: self._find_plain(source) for source in sources}
        if not all(found.values()):
            return None
        changed = []
        for path in filter(None, found.values()):
            before = self._files[path]
            self._write(path, before)
            if self._files[path] != before:
                changed.append(path)
        return tuple(sorted(changed))

    def has(self, source: str) -> bool:
        """Return whether a path of the project is a plain file of this tree."""
        return source in self._places

    def sources(self) -> tuple[str, ...]:
        """Return the project's paths of all plain files."""
        return tuple(self._places)

    def find_source(self, path: str) -> str | None:
        """Return the project's path of a file that is in the folder, or was."""
        return self._sources.get(path)

    def _find_plain(self, source: str) -> str | None:
        """Return the place of a file whose kind and mode are as they were."""
        path = self._places.get(source)
        try:
            mode = (self._project / source).lstat().st_mode
        except OSError:
            return None
        is_same = path is not None and stat.S_ISREG(mode) and bool(mode & 0o100) is self._files[path].executable
        return path if is_same else None

    def _write(self, path: str, file: StagedFile) -> None:
        place, new = self.folder / path, self._new / "file"
        try:
            self._ensure_folder(PurePosixPath(path).parent)
            if file.link:
                new.unlink(missing_ok=True)
                new.symlink_to(file.link)
                content = file.content
            else:
                data = (self._project / file.source).read_bytes()
                content = hashlib.sha256(data).hexdigest()
                if path in self._files and (self._files[path].content, self._files[path].executable) == (
                    content, file.executable,
                ):  # fmt: skip
                    return
                new.unlink(missing_ok=True)
                new.write_bytes(data)
                new.chmod(0o755 if file.executable else 0o644)
            new.replace(place)
        except FileNotFoundError:
            return  # deleted since: the next change tells
        except OSError as error:
            new.unlink(missing_ok=True)
            trouble = describe_disk_error(error) or error.strerror
            raise BuildError(
                f"{place}: {trouble}", hint="free some room; the files in the container are older"
            ) from error
        self._sources[path] = file.source
        self._files[path] = StagedFile(source=file.source, content=content, executable=file.executable, link=file.link)

    def _ensure_folder(self, path: PurePosixPath) -> None:
        folder = self.folder / path
        if not folder.is_dir():
            self._ensure_folder(path.parent)
            folder.mkdir()
            folder.chmod(0o755)  # whatever the umask

    def _remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            (self.folder / path).unlink(missing_ok=True)
            del self._files[path]
            parent = PurePosixPath(path).parent
            while str(parent) != ".":
                try:
                    (self.folder / parent).rmdir()
                except OSError:
                    break  # there are other files
                parent = parent.parent


def _meet(new: Iterable[str], old: Mapping[str, StagedFile]) -> bool:
    """Return whether a new path is a folder of old ones, or is below an old file."""
    folders = {str(parent) for path in old for parent in PurePosixPath(path).parents}
    return any(path in folders or any(str(parent) in old for parent in PurePosixPath(path).parents) for path in new)
