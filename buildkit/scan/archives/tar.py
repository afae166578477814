"""Tar archives, read member by member in place.

Follows POSIX pax and GNU tar: long names and sizes of ``x``, ``g``, ``L`` and ``K`` members are applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.archives import member_names as names
from buildkit.scan.archives import rules
from buildkit.scan.context import ScanContext
from buildkit.scan.limits import LimitError
from buildkit.scan.pickle.rules import TORCH_TAR
from buildkit.scan.source import RangeSource, ScanSource

BLOCK = 512
PIECE = 2**20
LONGEST = 2**20  # bytes of an extended header
FILES = (b"0", b"\0", b"7", b"")
LINKS = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
TORCH = {"storages", "tensors", "pickle"}


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member; its content is ``size`` bytes at ``start``."""

    name: str
    kind: bytes
    start: int
    size: int
    target: str = ""


@dataclass(slots=True)
class ExtendedHeaders:
    """Values of extended headers for the members that follow."""

    once: dict[str, str] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)

    def get(self, key: str, otherwise: str) -> str:
        """Return the value of ``key``, or ``otherwise``."""
        return self.once.get(key, self.always.get(key, otherwise))


def recognise(head: bytes, source: ScanSource) -> bool:
    """Return whether content begins with a tar header, by its checksum."""
    return source.size >= BLOCK and is_header(head[:BLOCK])


def is_header(block: bytes) -> bool:
    """Return whether a block is a header: its checksum, of signed or unsigned bytes, is right."""
    checksum = parse_number(block[148:156])
    if len(block) < BLOCK or checksum is None or not any(block):
        return False
    fields = block[:148] + b" " * 8 + block[156:]
    high = sum(byte > 127 for byte in fields)
    return checksum in (sum(fields), sum(fields) - 256 * high)


def parse_number(digits: bytes) -> int | None:
    """Parse a number of a header: octal digits, or binary if the first bit is set; None if malformed."""
    if digits[:1] and digits[0] & 0x80:
        return int.from_bytes(digits[1:], "big")
    octal = digits.strip(b" \0")
    return None if octal.strip(b"01234567") else int(octal or b"0", 8)  # int() would take a sign and underscores, too


def scan(context: ScanContext, source: ScanSource) -> None:
    """Scan every member.

    Raises:
        LimitError: too many members.
    """
    seen: set[str] = set()
    for member in read_members(context, source):
        plain = member.name.removeprefix("./")
        if plain in seen:
            context.find(rules.DUPLICATE, f"names {plain} twice", offset=member.start)
        seen.add(plain)
        if names.escapes_folder(member.name):
            context.find(rules.OUTSIDE, f"names a member {member.name}", offset=member.start)
        if member.kind in LINKS:
            report_link(context, member)
        elif member.kind in FILES and member.size:
            context.descend(plain, RangeSource(source, member.start, member.size))
        elif member.kind == b"S":
            context.gap(f"{plain} is sparse, which this scanner does not read", offset=member.start)
    if seen >= TORCH:
        context.formats["PyTorch, tar"] = None
        context.find(TORCH_TAR, "has the members storages, tensors and pickle")


def report_link(context: ScanContext, member: TarMember) -> None:
    """Report a member that is not a file."""
    if member.target and names.link_escapes_folder(member.name if member.kind == b"2" else "", member.target):
        context.find(rules.OUTSIDE, f"{member.name} is {LINKS[member.kind]} to {member.target}", offset=member.start)
    else:
        context.find(rules.LINK, f"{member.name} is {LINKS[member.kind]}", offset=member.start)


def read_members(context: ScanContext, source: ScanSource) -> Iterator[TarMember]:
    """Yield the members in their order, then scan what follows the end mark.

    Raises:
        LimitError: too many members, or an extended header is too long.
    """
    at, extended = 0, ExtendedHeaders()
    while at < source.size:
        block = source.read(at, BLOCK)
        if not is_header(block):
            break
        context.budget.member()
        member = read_member(block, at, extended)
        if member is None or member.start + member.size > source.size:
            context.gap("a member is cut off", offset=at)
            if member is None:
                return
            member = TarMember(
                member.name, member.kind, member.start, max(0, source.size - member.start), member.target
            )
        at = member.start + -(-member.size // BLOCK) * BLOCK
        if member.kind in (b"x", b"g", b"L", b"K"):
            read_extended(source, member, extended)
            continue
        yield member
        extended.once.clear()
    scan_rest(context, source, at)


def scan_rest(context: ScanContext, source: ScanSource, at: int) -> None:
    """Scan what follows the end mark, unless it is zeros."""
    for start in range(at, source.size, PIECE):
        part = source.read(start, PIECE)
        if part.strip(b"\0"):
            mark = start + (len(part) - len(part.lstrip(b"\0"))) // BLOCK * BLOCK
            context.descend(f"rest@{mark}", RangeSource(source, mark, source.size - mark))
            return


def read_member(block: bytes, at: int, extended: ExtendedHeaders) -> TarMember | None:
    """Return the member that a header describes; None if its size is malformed."""
    name = parse_text(block[:100])
    if block[257:262] == b"ustar" and block[345:346] not in (b"", b"\0") and block[263:265] == b"00":
        name = f"{parse_text(block[345:500])}/{name}"
    kind = block[156:157]
    size = parse_number(block[124:136])
    declared = extended.get("size", "")
    if declared.isdecimal() and len(declared) < 20 and kind not in (b"x", b"g", b"L", b"K"):
        size = int(declared)
    if size is None:
        return None
    if kind in LINKS or kind == b"5":
        size = 0
    target = extended.get("linkpath", parse_text(block[157:257]))
    return TarMember(extended.get("path", name), kind, at + BLOCK, size, target)


def parse_text(raw: bytes) -> str:
    """Parse a field of a header up to its NUL."""
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


def read_extended(source: ScanSource, member: TarMember, extended: ExtendedHeaders) -> None:
    """Apply an extended header. Raises LimitError if it is too long."""
    if member.size > LONGEST:
        raise LimitError(f"an extended header of a tar archive is longer than {LONGEST} bytes")
    raw = source.read(member.start, member.size)
    if member.kind in (b"L", b"K"):
        extended.once["path" if member.kind == b"L" else "linkpath"] = parse_text(raw)
        return
    values = extended.always if member.kind == b"g" else extended.once
    while raw:
        digits, _, _ = raw.partition(b" ")
        if not digits.isdigit() or len(digits) > 9 or not 0 < int(digits) <= len(raw):
            return
        record, raw = raw[: int(digits)], raw[int(digits) :]
        key, _, value = record[len(digits) + 1 : -1].partition(b"=")
        values[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
