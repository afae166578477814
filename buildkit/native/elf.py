"""Parse what the dynamic linker reads of an ELF file, and nothing else; pure and bounded, given bytes at offsets.

Sources: System V ABI (gABI 4.1, chapters 4 and 5), and the Linux Standard Base's "Symbol Versioning". Section headers
are ignored, as the linker ignores them: they are often stripped, and may be false. Lists are only followed forward and
have length limits, so hostile content takes bounded time and ends in `ElfError`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from buildkit.lazy_dataclass import dataclass

Read = Callable[[int, int], bytes]
"""``read(offset, count)`` returns that many bytes of a file, fewer only at its end."""

MAGIC = b"\x7fELF"
EXECUTABLE, SHARED = 2, 3  # e_type; position-independent programs are SHARED as well
MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv",
    258: "loongarch",
}  # fmt: skip

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NULL, _NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 0, 1, 5, 10, 14, 15, 29
_VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_BASE, _WEAK = 1, 2  # flags of versions

_SEGMENTS = 1024  # real files have about a dozen
_DYNAMIC_BYTES = 1 << 20
_STRING = 4096  # PATH_MAX; only C++ symbols are longer, and those are not read
_NAMES = 20_000  # of one file, in all lists together
VERSIONS = 1 << 18  # bytes read of a version table


class ElfError(ValueError):
    """The content starts like an ELF file but cannot be loaded, or exceeds a limit; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """One file, as the dynamic linker sees it.

    ``machine`` is e_machine, ``bits`` 32 or 64, ``kind`` e_type. ``rpath`` and ``runpath`` are as written, with
    ``$ORIGIN``. ``versions`` are pairs of a needed file and the symbol versions required of it (without weak ones);
    ``defines`` are the versions that the file defines.
    """

    machine: int
    bits: int
    kind: int
    soname: str = ""
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    versions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    defines: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """Machine and class for people: ``x86-64, 64 bits``."""
        return f"{MACHINES.get(self.machine, f'machine {self.machine}')}, {self.bits} bits"


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header: its type, and its position in the file and in memory, in bytes."""

    kind: int
    offset: int
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Head:
    """The header and program headers of a file; ``order`` is the byte order as ``struct`` writes it."""

    order: str
    bits: int
    machine: int
    kind: int
    segments: tuple[Segment, ...]

    def find(self, kind: int) -> Segment | None:
        """Find the first segment of a kind that has content."""
        return next((segment for segment in self.segments if segment.kind == kind and segment.size), None)

    @property
    def dynamic(self) -> Segment | None:
        """The dynamic section; None for a file that is not linked dynamically."""
        return self.find(_DYNAMIC)

    @property
    def interpreter(self) -> Segment | None:
        """The segment with the path of the dynamic linker."""
        return self.find(_INTERPRETER)

    def offset(self, address: int) -> int:
        """Convert an address in memory to an offset in the file; raises ElfError if no segment holds it."""
        for segment in self.segments:
            if segment.kind == _LOAD and segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        raise ElfError("one of its addresses is in none of its segments")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The dynamic section: offsets and lengths in bytes, counts of version records, offsets of names."""

    strings: tuple[int, int] = (0, 0)
    needs: tuple[int, int] = (0, 0)
    defines: tuple[int, int] = (0, 0)
    names: tuple[tuple[int, int], ...] = ()

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """The parts (offset, bytes) of the file that are needed to parse it completely."""
        tables = ((place, VERSIONS) for place, count in (self.needs, self.defines) if count)
        return (self.strings, *tables)


def parse_elf(read: Read) -> Elf:
    """Parse a file; raises ElfError if it is damaged or exceeds a limit."""
    head = parse_head(read)
    interpreter = ""
    if (found := head.interpreter) is not None:
        interpreter = _text(read(found.offset, min(found.size, _STRING)).partition(b"\0")[0])
    elf = Elf(machine=head.machine, bits=head.bits, kind=head.kind, interpreter=interpreter)
    if (place := head.dynamic) is None:
        return elf
    dynamic = parse_dynamic(head, read(place.offset, min(place.size, _DYNAMIC_BYTES)))
    return _Reading(read, head.order, dynamic).complete(elf)


def parse_head(read: Read) -> Head:
    """Parse the headers at the start of a file; raises ElfError if they are damaged or exceed a limit."""
    ident = read(0, 64)
    bits, order = {b"\1": 32, b"\2": 64}.get(ident[4:5]), {b"\1": "<", b"\2": ">"}.get(ident[5:6])
    if ident[:4] != MAGIC or bits is None or order is None:
        raise ElfError("its header has an unknown class or byte order")
    kind, machine = _unpack(f"{order}HH", ident, 16)
    if bits == 64:
        (place,), (size, count) = _unpack(f"{order}Q", ident, 32), _unpack(f"{order}HH", ident, 54)
        form, names = f"{order}IIQQQQ", (0, 2, 3, 5)
    else:
        (place,), (size, count) = _unpack(f"{order}I", ident, 28), _unpack(f"{order}HH", ident, 42)
        form, names = f"{order}IIIII", (0, 1, 2, 4)
    if count > _SEGMENTS:
        raise ElfError(f"it has {count} segments, more than {_SEGMENTS}")
    table = read(place, size * count) if count else b""
    rows = (_unpack(form, table, size * number) for number in range(count))
    segments = tuple(Segment(*(row[name] for name in names)) for row in rows)
    return Head(order, bits, machine, kind, segments)


def parse_dynamic(head: Head, data: bytes) -> Dynamic:
    """Parse the dynamic section in ``data``; raises ElfError for addresses outside of all segments."""
    form = f"{head.order}{'qQ' if head.bits == 64 else 'iI'}"
    size = struct.calcsize(form)
    single: dict[int, int] = {}
    names: list[tuple[int, int]] = []
    for tag, value in struct.iter_unpack(form, data[: len(data) // size * size]):
        if tag == _NULL:
            break
        if tag in (_NEEDED, _SONAME, _RPATH, _RUNPATH):
            names.append((tag, value))
        single[tag] = value
    if len(names) > _NAMES:
        raise ElfError(f"it names more than {_NAMES} files")
    if _STRTAB not in single:
        return Dynamic()

    def table(address: int, count: int) -> tuple[int, int]:
        required = single.get(address, 0) and single.get(count, 0)
        return (head.offset(single[address]), single[count]) if required else (0, 0)

    strings = (head.offset(single[_STRTAB]), single.get(_STRSZ, 0))
    return Dynamic(strings, table(_VERNEED, _VERNEEDNUM), table(_VERDEF, _VERDEFNUM), tuple(names))


class _Reading:
    """Reads the names and versions of one file, up to a limit for all together."""

    def __init__(self, read: Read, order: str, dynamic: Dynamic) -> None:
        self._read = read
        self._order = order
        self._dynamic = dynamic
        self._left = _NAMES

    def complete(self, elf: Elf) -> Elf:
        names: dict[int, list[str]] = {_NEEDED: [], _SONAME: [], _RPATH: [], _RUNPATH: []}
        for tag, offset in self._dynamic.names:
            names[tag].append(self._name(offset))
        return Elf(
            machine=elf.machine,
            bits=elf.bits,
            kind=elf.kind,
            interpreter=elf.interpreter,
            soname=next(iter(names[_SONAME]), ""),
            needed=tuple(dict.fromkeys(filter(None, names[_NEEDED]))),
            rpath=_folders(names[_RPATH]),
            runpath=_folders(names[_RUNPATH]),
            versions=tuple(self._versions_needed()),
            defines=tuple(self._versions_defined()),
        )

    def _versions_needed(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Read records of files (version, count, file, first, next) with versions (hash, flags, other, name, next)."""
        place, count = self._dynamic.needs
        data = self._read(place, VERSIONS) if count else b""
        for at, (_, inner, file, first, _) in self._chain(data, "HHIII", 0, count):
            names = [
                self._name(name)
                for _, (_, flags, _, name, _) in self._chain(data, "IHHII", at + first, inner)
                if not flags & _WEAK
            ]
            yield self._name(file), tuple(names)

    def _versions_defined(self) -> Iterator[str]:
        """Read records of versions (version, flags, index, count, hash, first, next) with names (name, next)."""
        place, count = self._dynamic.defines
        data = self._read(place, VERSIONS) if count else b""
        for at, (_, flags, _, inner, _, first, _) in self._chain(data, "HHHHIII", 0, count):
            if not flags & _BASE:  # the base version is the file's own name
                for _, (name, _) in self._chain(data, "II", at + first, min(inner, 1)):
                    yield self._name(name)

    def _chain(self, data: bytes, form: str, at: int, count: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Follow records whose last field is the distance to the next one, which is never negative."""
        for _ in range(count):
            row = _unpack(f"{self._order}{form}", data, at)
            yield at, row
            if not row[-1]:
                return
            at += row[-1]

    def _name(self, offset: int) -> str:
        self._left -= 1
        start, size = self._dynamic.strings
        if self._left < 0:
            raise ElfError(f"it has more than {_NAMES} names")
        if offset >= size:
            raise ElfError("one of its names is outside its string table")
        for count in (64, _STRING):  # nearly all are short
            name, end, _ = self._read(start + offset, min(count, size - offset)).partition(b"\0")
            if end:
                return _text(name)
        raise ElfError("one of its names is not terminated")


def _unpack(form: str, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise ElfError("it ends early") from None


def _folders(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(folder for path in paths for folder in path.split(":") if folder)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
