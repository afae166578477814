"""Whether this machine runs programs of another processor: by qemu-user, which the kernel starts (binfmt_misc).

A program of 132 bytes is tried in a folder as its root, because that is where packages' scripts and steps run: there
the kernel must have opened qemu before (flag F), as Debian's qemu-user-static registers it.
"""

from __future__ import annotations

import os
import struct
import tempfile
from functools import cache
from pathlib import Path

from buildkit.tools.process import Command, run

_BASE = 0x400000
_HEADERS = 64 + 56  # of the file and of its only segment
_EXITS = {  # e_machine, and the code of exit(0)
    "aarch64": (183, bytes.fromhex("a80b80d2000080d2010000d4")),
    "x86_64": (62, bytes.fromhex("b83c00000031ff0f05")),
}


@cache
def can_emulate(arch: str) -> bool:
    """Return whether programs for ``arch`` (the kernel's name) run on this machine, by itself or by emulation."""
    with tempfile.TemporaryDirectory(prefix="buildkit-try-") as folder:
        program = Path(folder, "try")
        program.write_bytes(render_program(arch))
        program.chmod(0o755)
        enter = () if os.geteuid() == 0 else ("unshare", "--map-root-user")
        return run(Command(argv=(*enter, "chroot", folder, "/try"), accept=tuple(range(256)))).code == 0


def render_program(arch: str) -> bytes:
    """Return a program (ELF) that ends at once, successfully."""
    machine, code = _EXITS[arch]
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    size = _HEADERS + len(code)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + header + segment + code
