"""A tree is compared with the layer that it is of: contents, and everything that the headers of its tar say."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from buildkit.errors import BuildError, DamagedError
from buildkit.imagestore.tree_paths import find_whiteout, normalise, resolve_folder
from buildkit.imagestore.tree_reader import read_tree
from buildkit.layers.tar.parser import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    FILE,
    FOLDER,
    HARD_LINK,
    PIPE,
    SYMLINK,
    LayerMember,
    TarParser,
)

_TYPES = {
    FILE: stat.S_IFREG, FOLDER: stat.S_IFDIR, SYMLINK: stat.S_IFLNK, PIPE: stat.S_IFIFO,
    CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK,
}  # fmt: skip
_TIMES = range(1 << 32)  # seconds that every file system keeps
_NANOSECONDS = 1_000_000_000


def find_alteration(tree: Path, tar_split: Path) -> str:
    """Return the first thing in which a tree differs from its layer, empty if it is as it was written.

    It is a phrase: ``etc/passwd has other content``. The tree has the name of its diff_id.
    """
    collected = _Members()
    parser = TarParser(collected, "the layer")
    tar = hashlib.sha256()
    try:
        for chunk in read_tree(tree, tar_split):
            tar.update(chunk)
            parser.feed(chunk)
        parser.finish()
    except DamagedError as error:
        return error.message.partition(": ")[2]
    except (BuildError, ValueError):
        return f"{tar_split.name} has other content"
    if tar.hexdigest() != tree.name:
        return f"{tar_split.name} has other content"
    return next(collected.differences(tree), "")


class _Members:
    """The members of a tar, by their paths in the tree."""

    def __init__(self) -> None:
        self._members: dict[bytes, LayerMember | None] = {}  # None for what no header describes
        self._folders = {b""}
        self._links: dict[bytes, bytes] = {}

    def start(self, member: LayerMember) -> None:
        path = normalise(member.path)
        folder, _, name = path.rpartition(b"/")
        if folder not in self._folders:
            folder = resolve_folder(folder, self._links)
        removed = find_whiteout(name)
        name = name if removed is None else removed
        path = folder + b"/" + name if folder else name
        if removed is not None:
            self._members.setdefault(path, None)
        elif path:
            self._members[path] = member
        if member.kind == SYMLINK and removed is None:
            self._links[path] = member.link
        while folder not in self._folders:
            self._members.setdefault(folder, None)
            self._folders.add(folder)
            folder = folder.rpartition(b"/")[0]

    def content(self, data: memoryview) -> None:
        """Contents are compared by their checksums."""

    def end(self) -> None:
        """Nothing is open."""

    def raw(self, data: memoryview | bytes) -> None:
        """Nothing is kept."""

    def differences(self, tree: Path) -> Iterator[str]:
        """Yield a phrase for each difference, with the paths that a tree has and its tar has not."""
        root = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            members = sorted((path, member) for path, member in self._members.items() if member is not None)
            folders = [item for item in members if item[1].kind == FOLDER and item[0]]
            for path, member in members:
                if member.kind != FOLDER and (why := self._differs(root, path, member)):
                    yield f"{_text(path)} {why}"
            yield from (f"{_text(path)} was added" for path in _paths(tree) if path not in self._members)
            for path, member in folders:  # they change with what is in them
                if why := self._differs(root, path, member):
                    yield f"{_text(path)} {why}"
        finally:
            os.close(root)

    def _differs(self, root: int, path: bytes, member: LayerMember) -> str:
        try:
            found = os.stat(path, dir_fd=root, follow_symlinks=False)
        except FileNotFoundError:
            return "" if member.kind in (CHARACTER_DEVICE, BLOCK_DEVICE) else "is gone"
        if member.kind == HARD_LINK:
            target = self._members.get(normalise(member.link))
            return "" if target is None or stat.S_IFMT(found.st_mode) == _TYPES[target.kind] else "is another file"
        if stat.S_IFMT(found.st_mode) != _TYPES[member.kind]:
            return "is of another kind"
        if member.kind == SYMLINK:
            return "" if os.readlink(path, dir_fd=root) == member.link else "leads elsewhere"
        if stat.S_IMODE(found.st_mode) != member.mode:
            return f"has mode {stat.S_IMODE(found.st_mode):04o}, not {member.mode:04o}"
        if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (member.uid, member.gid):
            return f"belongs to {found.st_uid}:{found.st_gid}, not {member.uid}:{member.gid}"
        seconds = member.mtime // _NANOSECONDS
        if seconds in _TIMES and found.st_mtime_ns // _NANOSECONDS != seconds:
            return "was written to"
        return ""


def _paths(tree: Path) -> Iterator[bytes]:
    top = os.fsencode(tree)
    for folder, folders, files in os.walk(top):
        below = folder[len(top) + 1 :]
        for name in (*folders, *files):
            yield below + b"/" + name if below else name


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
