"""File systems on which an image store cannot lie. Pure."""

from __future__ import annotations

_REMOTE = ("nfs", "cifs", "smb2", "smb3", "v9fs", "afs", "ceph", "fuse", "fuseblk")
_NO_OWNERS = ("msdos", "exfat", "ntfs", "ecryptfs")


def describe_file_system(name: str) -> str:
    """Return why an image store cannot lie on a file system, by its name in stat(1); empty if it can."""
    if name in _REMOTE:
        return f"on {name}, the kernel's overlay does not work, or not with files of several owners"
    return f"{name} does not keep owners, modes and attributes of files" if name in _NO_OWNERS else ""
