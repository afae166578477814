"""Trees of a checkout: the files that copies, mounts and local packages consist of, listed and hashed.

One rule for whatever is listed but is not an ordinary file here:

- A relative link that stays in the tree, and an absolute link, stay links. A relative link that leaves the tree is
  replaced by what it leads to, which must belong to the repository.
- The files of a submodule belong to the tree.
- What a sparse checkout left out, a submodule that was not fetched, a link out of the project, and in a copy a relative
  link to what the copy lacks are errors.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from buildkit.build.own_files import is_below, own_path
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.plan.spec import Tree, TreeFile
from buildkit.store.stat_index import StatIndex
from buildkit.tools.git import is_submodule

_MOST_LINKS = 40  # that are followed to one file, as Linux does


class SourceTrees:
    """Reads trees of the project at ``folder``; ``names`` lists the files of each, relative to the project.

    With ``whole``, what links of a tree lead to must be in it.
    """

    def __init__(
        self, folder: Path, index: StatIndex, names: Callable[[str], list[str]], *, whole: bool = False
    ) -> None:
        self._whole = whole
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
        if self._whole:
            self._check_links(place, found)
        return Tree(path=place, files=files)

    def _check_links(self, place: str, found: Mapping[str, TreeFile]) -> None:
        """Raise DefinitionError for a relative link that would lead nowhere in the image."""
        relative = [file for file in found.values() if file.link and not posixpath.isabs(file.link)]
        folders = {parent for path in found if relative for parent in _folders_above(path)}
        for file in relative:
            target = _resolve(file.path, place, found)
            if target in folders or target in found:
                continue
            name, real = posixpath.join(place, file.path), posixpath.join(place, target)
            why = "which the copy leaves out" if os.path.lexists(self._folder / real) else "which does not exist"
            hint = f"git add {real}, or remove the link; one to what is made later is absolute: /PATH/IN/THE/IMAGE"
            raise DefinitionError(f"{name}: a link to {real}, {why}", hint=hint)

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


def _resolve(name: str, place: str, found: Mapping[str, TreeFile]) -> str:
    """Return where a path of the tree at ``place`` leads in it. Raises DefinitionError if that is in a circle."""
    path = name
    for _ in range(_MOST_LINKS):
        above = next((part for part in (*_folders_above(path), path) if part in found and found[part].link), "")
        link = found[above].link if above else ""
        if not above or posixpath.isabs(link):
            return above or path
        rest = posixpath.relpath(path, above)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(above), link, rest))
    raise DefinitionError(
        f"{posixpath.join(place, name)}: a link that leads in a circle", hint="remove it, or ignore it"
    )


def _folders_above(path: str) -> Iterator[str]:
    """Yield the folders above a path, the top first, which is a dot."""
    parts = path.split("/")
    yield "."
    yield from ("/".join(parts[:depth]) for depth in range(1, len(parts)))


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
