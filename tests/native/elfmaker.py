"""Tiny ELF files as a linker would have made them: headers, the dynamic section, names and versions; no code."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

X86_64, AARCH64, I386 = 62, 183, 3
_BASE = 0x10000  # address of the file's first byte: places and addresses differ, as in real files


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the file shall say; ``needs`` are files with the versions wanted of them, ``weak`` those that may lack."""

    needed: Sequence[str] = ()
    soname: str = ""
    rpath: str = ""
    runpath: str = ""
    interpreter: str = ""
    needs: Sequence[tuple[str, Sequence[str]]] = ()
    weak: Sequence[str] = ()
    defines: Sequence[str] = ()
    machine: int = X86_64
    bits: int = 64
    big: bool = False
    kind: int = 3
    before: int = 0  # bytes of something else before the names, as code is in real files
    between: int = 0  # bytes between names and instructions
    after: int = 0
    late: bool = False  # the names behind the instructions, as patchelf puts them


def make_elf(**fields: object) -> bytes:
    """The file."""
    return _Maker(Wanted(**fields)).make()  # type: ignore[arg-type]


class _Maker:
    def __init__(self, wanted: Wanted) -> None:
        self._w = wanted
        self._order = ">" if wanted.big else "<"
        self._strings = bytearray(b"\0")

    def make(self) -> bytes:
        w = self._w
        entries = [(1, self._name(name)) for name in w.needed]
        entries += [(tag, self._name(text)) for tag, text in ((14, w.soname), (15, w.rpath), (29, w.runpath)) if text]
        needs, defines = self._needs(), self._defines()
        header = 64 if w.bits == 64 else 52
        row = 56 if w.bits == 64 else 32
        size = 16 if w.bits == 64 else 8
        segments = 3 if w.interpreter else 2
        at = header + row * segments
        interpreter = w.interpreter.encode() + b"\0" if w.interpreter else b""
        tables = bytes(self._strings), needs, defines
        length = size * (len(entries) + 7)
        start = at + len(interpreter) + w.before
        dynamic = start if w.late else start + sum(map(len, tables)) + w.between
        places = [start + (length if w.late else 0)]
        for table in tables[:2]:
            places.append(places[-1] + len(table))
        entries += [(5, _BASE + places[0]), (10, len(tables[0]))]
        if needs:
            entries += [(0x6FFFFFFE, _BASE + places[1]), (0x6FFFFFFF, len(w.needs))]
        if defines:
            entries += [(0x6FFFFFFC, _BASE + places[2]), (0x6FFFFFFD, len(w.defines) + 1)]
        section = b"".join(self._pack("qQ" if w.bits == 64 else "iI", *entry) for entry in entries).ljust(length, b"\0")
        body = b"".join((section, *tables) if w.late else (*tables, bytes(w.between), section))
        data = interpreter + bytes(w.before) + body + bytes(w.after)
        rows = [self._segment(1, 0, at + len(data)), self._segment(2, dynamic, length)]
        if interpreter:
            rows.append(self._segment(3, at, len(interpreter)))
        return self._header(segments) + b"".join(rows) + data

    def _header(self, segments: int) -> bytes:
        w = self._w
        ident = b"\x7fELF" + bytes([2 if w.bits == 64 else 1, 2 if w.big else 1, 1]) + bytes(9)
        if w.bits == 64:
            return ident + self._pack("HHIQQQIHHHHHH", w.kind, w.machine, 1, 0, 64, 0, 0, 64, 56, segments, 0, 0, 0)
        return ident + self._pack("HHIIIIIHHHHHH", w.kind, w.machine, 1, 0, 52, 0, 0, 52, 32, segments, 0, 0, 0)

    def _segment(self, kind: int, offset: int, size: int) -> bytes:
        if self._w.bits == 64:
            return self._pack("IIQQQQQQ", kind, 4, offset, _BASE + offset, _BASE + offset, size, size, 1)
        return self._pack("IIIIIIII", kind, offset, _BASE + offset, _BASE + offset, size, size, 4, 1)

    def _needs(self) -> bytes:
        out = b""
        for number, (file, versions) in enumerate(self._w.needs):
            last = number == len(self._w.needs) - 1
            out += self._pack("HHIII", 1, len(versions), self._name(file), 16, 0 if last else 16 + 16 * len(versions))
            for place, version in enumerate(versions):
                following = 0 if place == len(versions) - 1 else 16
                weak = 2 if version in self._w.weak else 0
                out += self._pack("IHHII", 0, weak, 2, self._name(version), following)
        return out

    def _defines(self) -> bytes:
        names = [self._w.soname or "base", *self._w.defines] if self._w.defines else []
        out = b""
        for number, name in enumerate(names):
            following = 0 if number == len(names) - 1 else 28
            out += self._pack("HHHHIII", 1, 0 if number else 1, number + 1, 1, 0, 20, following)
            out += self._pack("II", self._name(name), 0)
        return out

    def _name(self, text: str) -> int:
        self._strings += text.encode() + b"\0"
        return len(self._strings) - len(text.encode()) - 1

    def _pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self._order + form, *values)
