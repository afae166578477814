"""File systems: which one has a folder, and on which an image store cannot lie."""

from __future__ import annotations

from pathlib import Path

from buildkit.tools.process import Command, find_tool, run

_REMOTE = ("nfs", "cifs", "smb2", "smb3", "v9fs", "afs", "ceph", "fuse", "fuseblk")
_NO_OWNERS = ("msdos", "exfat", "ntfs", "ecryptfs")


def find_file_system(path: Path) -> str:
    """Return the type of the file system that has a folder, or will have it, as stat(1) names it; empty if unknown."""
    if find_tool("stat") is None:
        return ""
    while not path.exists():
        path = path.parent
    argv = ("stat", "--file-system", "--format=%T", "--", str(path))
    return run(Command(argv=argv, accept=(0, 1))).text


def describe_file_system(name: str) -> str:
    """Return why an image store cannot lie on a file system, by its name in stat(1); empty if it can."""
    if name in _REMOTE:
        return f"on {name}, the kernel's overlay does not work, or not with files of several owners"
    return f"{name} does not keep owners, modes and attributes of files" if name in _NO_OWNERS else ""
