"""Programs and libraries among models, recognised by their first bytes, whatever their names."""

from __future__ import annotations

import re

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.source import ScanSource

PROGRAM = Rule(
    id="program",
    title="A program, not a model",
    severity=Severity.HIGH,
    why="Weights are data: a program or native library among them can only serve to be run.",
    advice="Remove the file from the model; install libraries through a lock.",
)
_MAGIC = (
    (b"\x7fELF", "an ELF program or library"),
    (b"\0asm", "a WebAssembly module"),
    (b"dex\n", "an Android program (DEX)"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"\xde\xc0\x17\x0b", "wrapped LLVM bitcode"),
    (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", "a Windows shortcut"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Windows installer or an old Office document"),
    (b"!<arch>\n", "a static library or a Debian package"),
    (b"\xed\xab\xee\xdb", "an RPM package"),
    (b"MSCF\0\0\0\0", "a Windows cabinet"),
    (b"\x1bLua", "compiled Lua"),
    (b"\x1bLJ", "compiled Lua"),
    (b"MZqFpD=", "a program for several systems (APE)"),
    (b"jartsr=", "a program for several systems (APE)"),
    (b"APEDBG=", "a program for several systems (APE)"),
    (b"\xfe\xed\xfe\xed", "a Java keystore"),
    (b"ITSF\x03\0\0\0", "compiled HTML help"),
)
_SHEBANG = re.compile(rb"#![ \t]*/[\w./+-]{1,200}")
_MACHO = {b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"}


def find_program(head: bytes, source: ScanSource) -> str | None:
    """Return what kind of program the content is; None for other content."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if shebang := _SHEBANG.match(head):
        return f"a script for {quote(shebang.group()[2:].strip())}"
    if head[:4] in _MACHO:
        return "a macOS program or library"
    if head[:4] in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf") and len(head) >= 8:
        count = int.from_bytes(head[4:8], "big")
        return "a macOS program or library" if count < 40 else "a Java class"
    if head[:2] == b"MZ" and len(head) >= 64:
        place = int.from_bytes(head[60:64], "little")
        if source.read(place, 4)[:2] in (b"PE", b"NE", b"LE", b"LX"):
            return "a Windows program or library"
        if int.from_bytes(head[2:4], "little") < 512 and int.from_bytes(head[4:6], "little") in range(1, 4096):
            return "a DOS program"
    return _compiled_python(head)


def _compiled_python(head: bytes) -> str | None:
    number = int.from_bytes(head[:2], "little")
    if head[2:4] != b"\r\n" or not (3000 <= number < 4000 or 62000 <= number < 62300 or 50000 < number < 61000):
        return None
    code = {8, 12, 16}  # offset of the code, by age of the format: with a time; also a size; also flags
    return "compiled Python" if any(head[at : at + 1] in (b"\xe3", b"c") for at in code) else None


def recognise(head: bytes, source: ScanSource) -> bool:
    """Return whether content is a program."""
    return find_program(head, source) is not None


def scan(context: ScanContext, source: ScanSource) -> None:
    """Report what program it is."""
    name = find_program(source.read(0, 4096), source)
    context.find(PROGRAM, f"it is {name}", offset=0)
