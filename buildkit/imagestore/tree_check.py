"""A tree is compared with the layer that it is of: contents, and everything that the headers of its tar say."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from buildkit.errors import BuildError, DamagedError
from buildkit.imagestore.tree_paths import find_whiteout, is_opaque_marker, normalise, resolve_folder
from buildkit.imagestore.tree_reader import read_tree
from buildkit.imagestore.tree_writer import OVERLAY
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
_DEVICES = (CHARACTER_DEVICE, BLOCK_DEVICE)  # not everybody may make them
_TIMES = range(1 << 32)  # seconds that every file system keeps
_NANOSECONDS = 1_000_000_000
_CAPABILITY = "security.capability"
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")  # of root, and of a user namespace
_OBEYED = (_CAPABILITY, *map(os.fsdecode, OVERLAY))  # extended attributes that change what containers see or may
_IMPLIED = LayerMember(path=b"", kind=FOLDER, mode=0o755)  # a folder of which no header tells
_WHITEOUT = LayerMember(path=b"", kind=CHARACTER_DEVICE, mode=0)


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
    """What is expected at each path, by the rules of `tree_writer`."""

    def __init__(self) -> None:
        self._members: dict[bytes, LayerMember] = {b"": _IMPLIED}
        self._folders = {b""}
        self._links: dict[bytes, bytes] = {}
        self._targets: dict[bytes, bytes] = {}  # of hard links
        self._whiteouts: set[bytes] = set()
        self._opaque: set[bytes] = set()

    def start(self, member: LayerMember) -> None:
        path = normalise(member.path)
        removed = find_whiteout(path.rpartition(b"/")[2])
        if removed is None:
            self._expect(self._locate(path), member)
        elif not any(path.startswith(gone + b"/") for gone in self._whiteouts):
            self._white_out(self._locate(path), removed)

    def _locate(self, path: bytes) -> bytes:
        folder, _, name = path.rpartition(b"/")
        if folder not in self._folders:
            folder = resolve_folder(folder, self._links)
        return folder + b"/" + name if folder else name

    def _expect(self, path: bytes, member: LayerMember) -> None:
        if not path:
            return  # what a layer says of the root is ignored
        self._enter(path.rpartition(b"/")[0])
        self._put(path, member)
        if member.kind == SYMLINK:
            self._links[path] = member.link
        elif member.kind == HARD_LINK:
            self._targets[path] = self._locate(normalise(member.link))

    def _enter(self, folder: bytes) -> None:
        missing = []
        while folder not in self._folders:
            missing.append(folder)
            folder = folder.rpartition(b"/")[0]
        for path in reversed(missing):
            self._put(path, _IMPLIED)

    def _put(self, path: bytes, member: LayerMember) -> None:
        self._members[path] = member
        if member.kind == FOLDER:
            self._folders.add(path)
            if path in self._whiteouts:
                self._opaque.add(path)
        if member.kind not in _DEVICES:  # without which a whiteout stays
            self._whiteouts.discard(path)

    def _white_out(self, path: bytes, removed: bytes) -> None:
        folder, _, name = path.rpartition(b"/")
        if not removed and not is_opaque_marker(name):
            return
        self._enter(folder)
        path = folder + b"/" + removed if folder and removed else folder or removed
        if path in self._folders:
            self._opaque.add(path)
        elif path not in self._members:
            self._members[path] = _WHITEOUT
            self._whiteouts.add(path)

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
            members = sorted(self._members.items())
            folders = [item for item in members if item[1].kind == FOLDER]
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
            found = os.stat(path or b".", dir_fd=root, follow_symlinks=False)
            if member.kind == HARD_LINK:
                target = os.stat(self._targets[path], dir_fd=root, follow_symlinks=False)
                return "" if os.path.samestat(found, target) else "is another file"
        except (FileNotFoundError, NotADirectoryError):
            return "" if member.kind in _DEVICES and member is not _WHITEOUT else "is gone"
        if stat.S_IFMT(found.st_mode) != _TYPES[member.kind]:
            return "is of another kind"
        if member.kind in _DEVICES and found.st_rdev not in (0, os.makedev(*member.device)):
            return "is another device"
        if member.kind in _DEVICES and not found.st_rdev:
            return ""  # a whiteout
        if member.kind == SYMLINK:
            return "" if os.readlink(path, dir_fd=root) == member.link else "leads elsewhere"
        return _compare_facts(found, member) or self._compare_attributes(root, path, member)

    def _compare_attributes(self, root: int, path: bytes, member: LayerMember) -> str:
        place = b"/proc/self/fd/%d/%b" % (root, path)
        names = os.listxattr(place, follow_symlinks=False)
        found = {name: os.getxattr(place, name, follow_symlinks=False) for name in names if name.startswith(_OBEYED)}
        powers = _powers(found.pop(_CAPABILITY, b""))
        if powers != _powers(member.xattrs.get(os.fsencode(_CAPABILITY), b"")) and (powers or os.geteuid() == 0):
            return "has other attributes"  # who may not set capabilities leaves them out
        is_opaque = [name for name, value in found.items() if name in _OPAQUE and value == b"y"]
        return "" if len(found) == len(is_opaque) == (path in self._opaque) else "has other attributes"


def _powers(capability: bytes) -> bytes:
    """Return the flags and sets of capabilities: the kernel decides which version it shows (capabilities(7))."""
    return capability[:1] + capability[4:20]


def _compare_facts(found: os.stat_result, member: LayerMember) -> str:
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
    return path.decode("utf-8", "backslashreplace") or "/"
