"""What a root's Containerfile takes from the checkout: its text, and the files of its context that it reads."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from pathlib import Path

from buildkit.build.source_tree import SourceTrees
from buildkit.build.tree_listing import TreeListing
from buildkit.declare.containerfile_root import (
    ContainerfileInputs,
    ContainerfileRoot,
    ContextSource,
    find_containerfile_inputs,
    matches,
)
from buildkit.declare.containerignore import parse_ignore_file
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit
from buildkit.plan.spec import Tree
from buildkit.store.stat_index import StatIndex

_IGNORE_FILES = (".containerignore", ".dockerignore")  # buildah reads the first that is there


def read_containerfile_root(
    root: ContainerfileRoot, folder: Path, index: StatIndex, read: Callable[[str], str | None], emit: Emit
) -> tuple[str, ContainerfileInputs, Tree]:
    """Return text, inputs and context: the files that git tracks and COPY names, without what is ignored.

    Raises DefinitionError for a file that cannot be parsed, and for a source that the context has not.
    """
    text = read(root.file)
    if text is None:
        raise DefinitionError(f"{root.file}: there is no such Containerfile", hint="`containerfile` in [root] names it")
    inputs = find_containerfile_inputs(text, root)
    if not inputs.sources:
        return text, inputs, Tree(path=root.context, files=())
    if not (folder / root.context).is_dir():
        raise DefinitionError(f"{root.context}: there is no such folder, which `context` of {root.file} names")
    ignored = _find_ignored(root, read)
    listing = TreeListing(folder, emit, ignored)

    def wanted(place: str) -> list[str]:
        names = listing.names(place)
        return names if inputs.whole else [name for name in names if _is_read(_inside(name, root), inputs)]

    try:
        tree = SourceTrees(folder, index, wanted).read(root.context)
    except DefinitionError:
        if listing.names(root.context) and not wanted(root.context):
            tree = Tree(path=root.context, files=())  # each source is reported
        else:
            raise
    _check_sources(root, inputs, tree, folder)
    return text, inputs, tree


def _inside(name: str, root: ContainerfileRoot) -> str:
    return posixpath.relpath(name, root.context)


def _find_ignored(root: ContainerfileRoot, read: Callable[[str], str | None]) -> Callable[[str], bool]:
    for name in _IGNORE_FILES:
        path = posixpath.normpath(posixpath.join(root.context, name))
        if (text := read(path)) is not None:
            rules = parse_ignore_file(text, path)
            return lambda name: rules(_inside(name, root))
    return lambda _name: False


def _is_read(path: str, inputs: ContainerfileInputs) -> bool:
    return any(matches(path, source.pattern) for source in inputs.sources)


def _check_sources(root: ContainerfileRoot, inputs: ContainerfileInputs, tree: Tree, folder: Path) -> None:
    problems = [
        _explain(source, root, folder)
        for source in inputs.sources
        if "$" not in source.pattern and not any(matches(file.path, source.pattern) for file in tree.files)
    ]
    if problems:
        raise DefinitionError.of(problems)


_HINT = "its context has what git tracks below `context`, without what .containerignore or .dockerignore names"


def _explain(source: ContextSource, root: ContainerfileRoot, folder: Path) -> Problem:
    """Return the problem of a source that the context has not."""
    inside = posixpath.normpath(source.pattern.lstrip("/"))
    path, hint = posixpath.normpath(posixpath.join(root.context, inside)), _HINT
    if _is_above(path):
        what, hint = "lies outside the project, of which the context is a part", "copy it into the repository"
    elif _is_above(inside):
        holds = posixpath.commonpath((root.context, posixpath.dirname(path))) or "."
        what = f"lies outside the context `{root.context}`"
        hint = f'set context = "{holds}" in [root], and name every source relative to it'
    elif os.path.lexists(folder / path):
        what = "is left out of the context: ignored, or not tracked by git"
    else:
        what = f"is not in the context `{root.context}`"
    return Problem(file=f"{root.file}:{source.line}", what=f"`{source.pattern}` {what}", hint=hint)


def _is_above(path: str) -> bool:
    return path.split("/")[0] == ".."
