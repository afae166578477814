"""A tree of the checkout, laid out for a container: the same names, modes and times whoever builds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from buildkit.digest import FileHash
from buildkit.errors import BuildError, source_changed
from buildkit.plan.spec import Tree, TreeFile

EPOCH = 315532800  # 1980-01-01: a zip knows no earlier time
_CHUNK = 1 << 20


def lay_out(root: Path, tree: Tree, place: Path) -> Path:
    """Copy the files of ``tree``, a tree of the project at ``root``, to ``place``, which must not be there yet.

    Only what the tree lists: what git does not track must not reach a build. Raises MismatchError for a file that
    has changed since it was hashed, BuildError where the tree is one symbolic link.
    """
    source = root / tree.path
    if [file.path for file in tree.files] == ["."]:
        _copy(source, tree.files[0], place)
        return place
    _make_folder(place)
    for file in tree.files:
        target = place / file.path
        for folder in reversed(target.relative_to(place).parents):
            _make_folder(place / folder)
        _copy(source / file.path, file, target)
    return place


def _make_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # whatever the umask


def _copy(source: Path, file: TreeFile, target: Path) -> None:
    if file.link and file.path == ".":
        raise BuildError(f"{source}: is a symbolic link, which cannot be mounted", hint="name what it leads to")
    if file.link:
        target.symlink_to(file.link)
    else:
        hasher = hashlib.sha256()
        with source.open("rb") as old, target.open("xb") as new:
            while chunk := old.read(_CHUNK):
                hasher.update(chunk)
                new.write(chunk)
        if FileHash(hasher.hexdigest()) != file.sha256:
            raise source_changed(source)
        target.chmod(0o755 if file.executable else 0o644)
    os.utime(target, (EPOCH, EPOCH), follow_symlinks=False)
