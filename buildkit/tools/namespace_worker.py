"""Furnishes new namespaces, then becomes a command: ``[--net] [--private [--keep=PATH]…] -- COMMAND``.

Sent as text to an interpreter that unshare(1) started inside the namespaces (``python -I -c``), so it imports nothing
of buildkit. ``--net`` brings up the loopback of a network namespace: no ip(8) is needed, it is SIOCSIFFLAGS of
netdevice(7) on a struct ifreq. ``--private`` covers ``/dev`` of a mount namespace with one of its own: the devices that
every container has, terminals, shared memory and message queues. Of the host's ``/dev`` only the folders that are kept
stay visible, read-only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

_SIOCSIFFLAGS = 0x8914
_IFF_UP_AND_RUNNING = 0x41

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND = 1, 2, 4, 8, 32, 4096  # mount(2)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")  # fuse-overlayfs needs the last
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def main(arguments: list[str]) -> None:
    """Do what the options ask for, and execute the command in place of this process. Raises OSError."""
    end = arguments.index("--")
    options, argv = arguments[:end], arguments[end + 1 :]
    if "--net" in options:
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP_AND_RUNNING))
    if "--private" in options:
        cover_devices([option.partition("=")[2] for option in options if option.startswith("--keep=")])
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is meant


def cover_devices(kept: list[str]) -> None:
    """Mount a ``/dev`` of our own, in which the folders ``kept`` of the old one stay at their places."""
    devices = [path for path in (f"/dev/{name}" for name in _DEVICES) if os.path.exists(path)]  # noqa: PTH110
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (*devices, *kept)}
    mount("tmpfs", "/dev", "tmpfs", _NOSUID | _NOEXEC, "mode=755")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}")  # noqa: PTH102
    mount("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", "/dev/shm", "tmpfs", _NOSUID | _NODEV | _NOEXEC, "mode=1777")  # noqa: S108 - it is being made
    mount("mqueue", "/dev/mqueue", "mqueue", _NOSUID | _NODEV | _NOEXEC)
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")  # noqa: PTH211
    for path in devices:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        mount(f"/proc/self/fd/{held[path]}", path, "", _BIND)
    for path in kept:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
        mount(f"/proc/self/fd/{held[path]}", path, "", _BIND)
        mount("", path, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, as mount(2) does. Raises OSError."""
    words = (word.encode() or None for word in (source, target, kind))
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(*words, ctypes.c_ulong(flags), options.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


if __name__ == "__main__":
    main(sys.argv[1:])
