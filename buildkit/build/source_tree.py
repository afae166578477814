"""Trees of a checkout: the files that copies, mounts and local packages consist of, listed and hashed.

One rule for whatever is listed but is not an ordinary file here:

- A relative link that stays in the tree, and an absolute link, stay links. A relative link that leaves the tree is
  replaced by what it leads to, which must belong to the repository.
- The files of a submodule belong to the tree.
- What a sparse checkout left out, a submodule that was not fetched, and a link out of the project are errors.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from buildkit.build.own_files import is_below, own_path
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.plan.spec import Tree, TreeFile
from buildkit.store.stat_index import StatIndex
from buildkit.tools.git import is_submodule


class SourceTrees:
    """Reads trees of the project at ``folder``; ``names`` lists the files of each, relative to the project."""

    def __init__(self, folder: Path, index: StatIndex, names: Callable[[str], list[str]]) -> None:
        self._folder = folder
        self._index = index
        self._names = names

    def read(self, path: str) -> Tree:
        """Return the tree at ``path``, relative to the project; a link in the path is followed.

        Raises DefinitionError for a tree that is missing, empty, incomplete or outside the project.
        """
        if not os.path.lexists(self._folder / path):
            raise DefinitionError(f"{path}: there is no such file or folder in the repository")
        place = self._follow(path)
        found = {file.path: file for file in self._collect(place, ".", (place,))}
        files = tuple(found[name] for name in sorted(found))
        if not files:  # an image without its application must not pass for a success
            raise DefinitionError(
                f"{path}: none of its files belongs to the repository",
                hint="git add them; check .gitignore and .containerignore",
            )
        return Tree(path=place, files=files)

    def _follow(self, path: str) -> str:
        """Return the path without links, relative to the project; raises DefinitionError if it leads out of it."""
        place = os.path.realpath(own_path(self._folder, path, "the path"))
        real = os.path.relpath(place, os.path.realpath(self._folder))
        if not os.path.lexists(place):
            raise DefinitionError(f"{path}: a link to {real}, which does not exist")
        return real

    def _collect(self, place: str, at: str, within: tuple[str, ...]) -> Iterator[TreeFile]:
        """Yield the files of ``place`` (no link) as files of a tree at ``at``; ``within`` are the folders followed."""
        names = self._names(place)
        hashed = self._index.hash_all(self._folder, filter(_is_utf8, names))
        for name in names:
            relative = _place_at(at, name, place)
            if name in hashed:
                yield _tree_file(relative, *hashed[name])
            else:
                yield from self._entry(name, place, relative, within)

    def _entry(self, name: str, place: str, relative: str, within: tuple[str, ...]) -> Iterator[TreeFile]:
        path = self._folder / name
        try:
            mode = path.lstat().st_mode
            target = os.readlink(path) if stat.S_ISLNK(mode) else ""  # noqa: PTH115 - the target verbatim
            if not _is_utf8(name + target):
                raise DefinitionError(f"{os.fsencode(name)!r}: the name of this file, or its link, is not UTF-8")
            if target and not _leaves(name, target, place):
                yield TreeFile(path=relative, sha256=FileHash.of(target.encode()), size=0, link=target)
            elif target:
                yield from self._behind(name, relative, within)
            elif stat.S_ISDIR(mode):
                yield from self._submodule(name, relative, within)
            elif stat.S_ISREG(mode):
                yield _tree_file(relative, *self._index.hash(path))
            else:
                raise DefinitionError(f"{name}: neither a file nor a symbolic link", hint="remove it, or ignore it")
        except (FileNotFoundError, NotADirectoryError):
            return  # deleted in the work tree
        except OSError as error:
            raise DefinitionError(f"{name}: cannot be read: {error.strerror}") from error

    def _behind(self, name: str, relative: str, within: tuple[str, ...]) -> Iterator[TreeFile]:
        """Yield what a link leads to, which is in the repository but not in the tree."""
        real = self._follow(name)
        if any(is_below(place, real) for place in within):
            raise DefinitionError(f"{name}: a link to a folder that the link is in", hint="remove it, or ignore it")
        found = list(self._collect(real, relative, (*within, real)))
        if not found:
            raise DefinitionError(
                f"{name}: a link to {real}, of which nothing belongs to the repository", hint=f"git add {real}"
            )
        yield from found

    def _submodule(self, name: str, relative: str, within: tuple[str, ...]) -> Iterator[TreeFile]:
        """Yield the files of a folder that git lists as one entry: a submodule, unless it took the place of a file."""
        if not is_submodule(self._folder, name):
            return
        if not (self._folder / name / ".git").exists():
            raise DefinitionError(
                f"{name}: a submodule that is not fetched", hint=f"run: git submodule update --init -- {name}"
            )
        yield from self._collect(name, relative, within)


def _tree_file(path: str, sha256: FileHash, status: os.stat_result) -> TreeFile:
    return TreeFile(path=path, sha256=sha256, size=status.st_size, executable=bool(status.st_mode & 0o100))


def _place_at(at: str, name: str, place: str) -> str:
    """Return the path of ``name``, which is ``place`` or below it, in a tree in which ``place`` is at ``at``."""
    if at == "." and name.startswith(f"{place}/"):  # the same as below, for tens of thousands of files
        return name[len(place) + 1 :]
    return posixpath.normpath(posixpath.join(at, posixpath.relpath(name, place)))


def _leaves(name: str, target: str, place: str) -> bool:
    """Return whether a relative link at ``name`` leads out of ``place``, by its text."""
    if posixpath.isabs(target):
        return False
    if name == place:
        return True  # the link is all of the tree
    return not is_below(posixpath.normpath(posixpath.join(posixpath.dirname(name), target)), place)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
