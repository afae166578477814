"""Where the code of a process comes from: its container's image, what was written to it since, a mount, or memory."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from buildkit.running.proc import MountPoint
from buildkit.tools.proc_files import as_text

IMAGE, WRITTEN, ABSENT = "image", "written", "absent"
"""Places of files of a container's root: a layer of its image, its own layer, neither."""
MOUNT, MEMORY, GONE, UNKNOWN = "mount", "memory", "gone", "unknown"
"""Other places: a mount, no file at all, a deleted file."""
_DELETED = " (deleted)"
_UNNAMED = ("/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage")  # names that the kernel gives
_INTERPRETER = re.compile(r"(?:python|perl|ruby|node|lua|php|busybox|bash|dash|ash|sh)[0-9.]*")
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")  # of root, and of ordinary users
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def mapped_code(maps: bytes) -> Iterator[tuple[str, bool]]:
    """Yield the files in ``/proc/PID/maps`` whose code may be executed, and whether they were deleted.

    Memory without a file is left out: every just-in-time compiler has such.
    """
    for line in maps.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) == 6 and b"x" in fields[1] and fields[5].startswith(b"/"):
            yield split_deleted(as_text(fields[5]).replace("\\012", "\n"))  # all that the kernel escapes there


def split_deleted(path: str) -> tuple[str, bool]:
    """Return a path without the kernel's mark of deleted files, and whether it had that."""
    return (path.removesuffix(_DELETED), True) if path.endswith(_DELETED) else (path, False)


def find_mount(path: str, mounts: Sequence[MountPoint]) -> MountPoint | None:
    """Return the mount that a path is on, of two at one place the later one; None if none has it."""
    having = (one for one in mounts if path == one.target or path.startswith(f"{one.target.rstrip('/')}/"))
    return max(reversed(list(having)), key=lambda one: len(one.target), default=None)


def find_place(path: str, mount: MountPoint | None, layers: Sequence[str], *, deleted: bool) -> str:
    """Return the place of a file with code; ``layers`` are those of the container's root, the writable one first."""
    if deleted and path.startswith(_UNNAMED):
        return MEMORY
    if mount is None:
        return UNKNOWN
    if deleted:
        return GONE
    return MOUNT if mount.target != "/" else find_layer(path, layers)


def find_layer(path: str, layers: Sequence[str]) -> str:
    """Return whether an overlay's path is that of the image, was written to the first layer, or is in none.

    Folders are entered one by one and no link is followed: those of the first layer are the container's to make.
    """
    parts = [os.fsencode(part) for part in path.split("/") if part]
    for number, layer in enumerate(layers):
        try:
            answer = _look(os.open(layer, _FOLDER), parts)  # the store's own link to a tree is followed
        except OSError:
            return UNKNOWN
        if answer is not None:
            return (IMAGE if number else WRITTEN) if answer else ABSENT
    return ABSENT if layers else UNKNOWN


def _look(folder: int, parts: Sequence[bytes]) -> bool | None:
    """Return whether a layer has a path, or hides it from those below (False); None: look there. Raises OSError.

    The descriptor is closed.
    """
    hides = False
    try:
        for depth, part in enumerate(parts):
            try:
                status = os.stat(part, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return False if hides else None
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                return False  # a whiteout
            if depth == len(parts) - 1:
                return True
            if not stat.S_ISDIR(status.st_mode):
                return False
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
            hides = hides or _is_opaque(folder)
        return None
    finally:
        os.close(folder)


def _is_opaque(folder: int) -> bool:
    for name in _OPAQUE:
        with suppress(OSError):  # it has no such attribute, or the file system has none at all
            if os.getxattr(folder, name) == b"y":
                return True
    return False


def find_script(program: str, cmdline: bytes, folder: str) -> str:
    """Return the script that an interpreter was started with, empty for others; ``folder`` is the current one.

    The process may have changed its command line: what is found is a hint, what is not found proves nothing.
    """
    if not _INTERPRETER.fullmatch(posixpath.basename(program)):
        return ""
    for word in as_text(cmdline).split("\0")[1:]:
        if word.startswith(("-c", "-m")) or word in ("-", ""):
            return ""
        if not word.startswith("-"):
            return posixpath.normpath(posixpath.join(folder, word))
    return ""
