"""Lays out a tree of the checkout for a container, with the same names, modes and times on every host."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from buildkit.digest import FileHash
from buildkit.errors import BuildError, source_changed
from buildkit.layers.files import read_file
from buildkit.plan.spec import Tree, TreeFile

EPOCH = 315532800  # 1980-01-01, the earliest time that a zip can hold


def lay_out(root: Path, tree: Tree, target: Path) -> Path:
    """Copy the files of ``tree``, a tree of the project at ``root``, to ``target``, a new path; return that.

    Copies only the files that the tree lists, so that untracked files never reach a build. Raises MismatchError for a
    file that changed since it was hashed, BuildError for a tree that is a symbolic link.
    """
    source = root / tree.path
    if [file.path for file in tree.files] == ["."]:
        _copy(source, tree.files[0], target)
        return target
    _make_folder(target)
    for file in tree.files:
        copy = target / file.path
        for folder in reversed(copy.relative_to(target).parents):
            _make_folder(target / folder)
        _copy(source / file.path, file, copy)
    return target


def _make_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # independent of the umask


def _copy(source: Path, file: TreeFile, target: Path) -> None:
    if file.link and file.path == ".":
        raise BuildError(f"{source}: a symbolic link cannot be mounted", hint="name its target instead")
    if file.link:
        target.symlink_to(file.link)
    else:
        hasher = hashlib.sha256()
        with target.open("xb") as new:
            for chunk in read_file(source):
                hasher.update(chunk)
                new.write(chunk)
        if FileHash(hasher.hexdigest()) != file.sha256:
            raise source_changed(source)
        target.chmod(0o755 if file.executable else 0o644)
    os.utime(target, (EPOCH, EPOCH), follow_symlinks=False)
