"""Brings up the loopback of a new network namespace, then becomes the command in its arguments.

Sent as text to an interpreter inside the namespace (``python -I -c``), so it imports nothing of buildkit. No ip(8) is
needed: it is SIOCSIFFLAGS of netdevice(7) on a struct ifreq.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

_SIOCSIFFLAGS = 0x8914
_IFF_UP_AND_RUNNING = 0x41


def main(argv: list[str]) -> None:
    """Set the flags of ``lo`` and execute ``argv`` in place of this process."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP_AND_RUNNING))
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    main(sys.argv[1:])
