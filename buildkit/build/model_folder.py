"""The files of a model in the repository (``path:FOLDER``), by one rule for the lock and for every build.

Links are followed within the repository. Version control and the bookkeeping of model hubs are no part of a model: they
may hold credentials, and times that change with every download.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import field
from operator import attrgetter
from pathlib import Path

from buildkit.build.copy_source import suggest_path
from buildkit.build.own_files import is_below, own_path
from buildkit.build.unfetched import find_unfetched
from buildkit.errors import DefinitionError, ToolError
from buildkit.layers.globs import compile_excludes
from buildkit.layers.tar.member_path import find_path_problem
from buildkit.lazy_dataclass import dataclass

_BOOKKEEPING = frozenset({".git", ".hg", ".svn", ".jj", ".bzr", ".pijul", ".sl", ".huggingface", ".msc", ".mdl"})
_FETCH = "fetch it (git lfs pull?), or take the model out of the models file"
_HUB_CACHE = ".cache/huggingface"
_OF_GIT = frozenset({".gitattributes", ".gitignore"})


def is_bookkeeping(path: str) -> bool:
    """Whether a file of a model hub's repository is no part of the model."""
    name = path.rpartition("/")[2]
    return name in _OF_GIT or not _BOOKKEEPING.isdisjoint(path.split("/")) or f"/{path}".find(f"/{_HUB_CACHE}/") >= 0


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a model's source holds: ``files``, by path in the model, as paths in the repository.

    ``left_out`` are paths in the model of bookkeeping that is no part of it.
    """

    files: dict[str, str]
    left_out: tuple[str, ...]


@dataclass(slots=True)
class _Walk:
    root: Path
    model: str
    patterns: tuple[str, ...]
    left_out: list[str] = field(default_factory=list)
    matches: Callable[[str], bool] | None = field(init=False)

    def __post_init__(self) -> None:
        self.matches = compile_excludes(self.patterns) if self.patterns else None

    def list(self, place: str, prefix: str, within: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Yield the files of a folder; ``within`` are the real folders on the way to it."""
        with os.scandir(self.root / place) as found:
            entries = sorted(found, key=attrgetter("name"))
        below = posixpath.join(place, "")
        for entry in entries:
            name, source = f"{prefix}{entry.name}", f"{below}{entry.name}"
            if entry.name in _BOOKKEEPING or f"/{name}".endswith(f"/{_HUB_CACHE}"):
                self.left_out.append(name)
            elif entry.is_symlink():
                yield from self._behind(source, name, within)
            elif entry.is_dir():
                yield from self.list(source, f"{name}/", within)
            elif self.takes(name):
                yield self.checked(name, source, is_file=entry.is_file())

    def takes(self, name: str) -> bool:
        """Return whether the patterns choose a file."""
        return self.matches is None or self.matches(name)

    def checked(self, name: str, source: str, *, is_file: bool) -> tuple[str, str]:
        """Return a file that a lock and an image can hold; raises DefinitionError for another."""
        check_model_path(name, f"{source!r} of model `{self.model}`")
        if not is_file:
            raise DefinitionError(f"{source} of model `{self.model}` is not a file", hint="leave it out by `files`")
        return name, source

    def _behind(self, source: str, name: str, within: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Yield what a link leads to, if it is wanted; raises DefinitionError for one that leads nowhere good."""
        real = os.path.realpath(self.root / source)
        is_wanted = self.takes(name) or (os.path.isdir(real) and self.reaches_below(name))  # noqa: PTH112
        if not is_wanted:
            return
        own_path(self.root, source, f"model `{self.model}`")
        if not os.path.lexists(real):
            target = os.path.relpath(real, os.path.realpath(self.root))
            raise DefinitionError(
                f"{source} of model `{self.model}` is a link to {target}, which does not exist",
                hint="fetch what it leads to (git lfs pull?), or remove it",
            )
        if not os.path.isdir(real):  # noqa: PTH112
            yield self.checked(name, source, is_file=os.path.isfile(real))  # noqa: PTH113
            return
        if any(folder == real or folder.startswith(f"{real}/") for folder in within):
            raise DefinitionError(f"{source} of model `{self.model}` is a link to a folder that it is in")
        yield from self.list(source, f"{name}/", (*within, real))

    def reaches_below(self, name: str) -> bool:
        """Return whether the patterns may choose files of a folder."""
        return not self.patterns or any("**" in text or text.startswith(f"{name}/") for text in self.patterns)


def check_model_path(path: str, what: str) -> None:
    """Raise DefinitionError for a path that no lock or image can hold; ``what`` names the file."""
    if why := find_path_problem(path) or ("" if path.isprintable() else "has an unprintable character in its path"):
        raise DefinitionError(f"{what} {why}", hint="rename it, or leave it out by `files`")


def check_fetched(root: Path, source: str, model: str, patterns: tuple[str, ...]) -> None:
    """Raise DefinitionError if the checkout lacks a file of a model that git tracks: a lock would forget it."""
    walk, place = _Walk(root, model, patterns), source.rstrip("/")
    for path, command in find_unfetched(root, place).items():
        name = posixpath.basename(path) if is_below(place, path) else posixpath.relpath(path, place)
        is_wanted = walk.takes(name) or ((root / path).is_dir() and walk.reaches_below(name))
        if is_below(place, path) or (is_wanted and _BOOKKEEPING.isdisjoint(name.split("/"))):
            raise DefinitionError(f"{path} of model `{model}` is not in this checkout", hint=f"run: {command}")


def advise_missing(root: Path, source: str) -> str:
    """Return what to do about a file of a model that is not there: the nearest name, if its folder is not, either."""
    with suppress(ToolError):  # this is a hint of another error
        for command in find_unfetched(root, source).values():
            return f"run: {command}"
    near = "" if (root / source).parent.is_dir() else suggest_path(root, posixpath.dirname(source))
    return f"its folder is not there, either; {near}" if near else _FETCH


def list_model_folder(root: Path, source: str, model: str, patterns: tuple[str, ...]) -> ModelFolder:
    """Return the files of ``source`` (a folder or a file, relative to ``root``) that match the patterns; all without.

    Nothing is listed if there is no such source. Raises DefinitionError for a link out of the repository, one that
    leads nowhere, and a name that no lock or image can hold.
    """
    walk, place = _Walk(root, model, patterns), source.rstrip("/")
    path = own_path(root, place, f"model `{model}`")
    if path.is_dir():
        files = dict(walk.list(place, "", (os.path.realpath(path),)))
        return ModelFolder(files, tuple(walk.left_out))
    name = posixpath.basename(place)
    is_taken = path.is_file() and walk.takes(name)
    return ModelFolder(dict([walk.checked(name, place, is_file=True)]) if is_taken else {}, ())
