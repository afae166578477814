"""Zip archives: every header is checked against the others, and every byte is accounted for."""

from __future__ import annotations

import stat
from dataclasses import field

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.archives import member_names as names
from buildkit.scan.archives import rules
from buildkit.scan.archives.holes import scan_by_local_headers, scan_holes
from buildkit.scan.archives.torchzip import ArchiveKind, detect_kind, find_declaration, scan_known_member
from buildkit.scan.archives.zipcontent import MemberContent, clip_range, open_content
from buildkit.scan.archives.zipheaders import (
    DESCRIPTOR,
    END,
    LOCAL,
    EndRecord,
    ZipHeader,
    find_ends,
    read_directory,
    read_local,
)
from buildkit.scan.context import Declared, ScanContext
from buildkit.scan.source import ScanSource

ENCRYPTED = 0x2041  # flags: encrypted, strongly encrypted, masked headers
PATCH = 0x20
AES = 99
METHODS = 100  # every compression method has a lower number


@dataclass(slots=True)
class ZipArchive:
    """An archive while it is scanned; ``covered`` are the byte ranges that headers account for.

    ``described`` are the ends of members that a data descriptor may follow.
    """

    context: ScanContext
    source: ScanSource
    kind: ArchiveKind = field(default_factory=ArchiveKind)
    covered: list[tuple[int, int]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    described: set[int] = field(default_factory=set)


def recognise(head: bytes, source: ScanSource) -> bool:
    """Return whether content begins or ends as a zip archive."""
    if head.startswith(END) or (head.startswith(LOCAL) and has_valid_local_header(source)):
        return True
    return any(
        end.at + 22 + end.comment == source.size and leads_to_directory(source, end) for end in find_ends(source)
    )


def has_valid_local_header(source: ScanSource) -> bool:
    """Return whether the header at the beginning is plausible: a known method and a printable name."""
    found = read_local(source, 0)
    return found is not None and found[0].method < METHODS and bool(found[0].raw) and found[0].name.isprintable()


def leads_to_directory(source: ScanSource, end: EndRecord) -> bool:
    """Return whether an end record leads to a directory."""
    return any(source.read(place, 4) == b"PK\x01\x02" for place in end.places)


def scan(context: ScanContext, source: ScanSource) -> None:
    """Scan every member that any reader could see.

    Raises:
        LimitError: too many members.
    """
    archive = ZipArchive(context, source)
    ends = find_ends(source)
    headers = read_directories(archive, ends)
    if not headers and not any(end.count == 0 and end.size == 0 for end in ends):
        context.gap("the zip archive has no readable directory")
        start = 0 if source.read(0, 4) == LOCAL else None
        if start is not None:
            scan_by_local_headers(archive.context, source, start, source.size, archive.covered)
            return
    archive.kind = detect_kind(header.name for header, _ in headers)
    context.formats.update(dict.fromkeys(archive.kind.formats))
    check_names(archive, headers)
    for header, shift in headers:
        scan_member(archive, header, shift)
    scan_holes(context, source, archive.covered, archive.described)


def read_directories(archive: ZipArchive, ends: list[EndRecord]) -> list[tuple[ZipHeader, int]]:
    """Return the entries of all directories that end records lead to, each with the shift of its offsets."""
    found: dict[tuple[bytes, int], tuple[ZipHeader, int]] = {}
    lists: list[frozenset[tuple[bytes, int]]] = []
    read: set[int] = set()
    for end in ends:
        archive.covered.append((end.at, end.at + 22 + end.comment))
        if end.zip64 is not None:
            archive.covered.append((end.zip64, end.at))
        for place in end.places:
            if place in read or archive.source.read(place, 4) != b"PK\x01\x02":
                continue
            read.add(place)
            shift = place - end.offset
            entries = list(read_directory(archive.context, archive.source, place, end.size))
            archive.covered.append((place, place + sum(entry.length for entry in entries)))
            keyed = {(entry.raw, entry.offset): (entry, shift) for entry in entries}
            if end.count not in (len(entries), len(entries) & 0xFFFF):
                what = f"its end record counts {end.count} members, its directory has {len(entries)}"
                archive.context.find(rules.DISAGREE, what, offset=end.at)
            report_duplicates(archive.context, entries)
            lists.append(frozenset(keyed))
            found = keyed | found
    if len(set(lists)) > 1:
        archive.context.find(rules.DISAGREE, f"has {len(lists)} directories that differ")
    return list(found.values())


def report_duplicates(context: ScanContext, entries: list[ZipHeader]) -> None:
    """Report names that two entries of one directory share."""
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            context.find(rules.DUPLICATE, f"names {entry.name} twice")
        seen.add(entry.name)


def check_names(archive: ZipArchive, headers: list[tuple[ZipHeader, int]]) -> None:
    """Report names and kinds of members that must not be extracted."""
    for header, _ in headers:
        if names.escapes_folder(header.name):
            archive.context.find(rules.OUTSIDE, f"names a member {header.name}")
        mode = header.attributes >> 16
        if mode and stat.S_ISLNK(mode):
            archive.context.find(rules.LINK, f"{header.name} is a link")


def find_local(archive: ZipArchive, header: ZipHeader, shift: int) -> tuple[ZipHeader, bool] | None:
    """Return the local header that readers find, with the shift of a prefix or without."""
    places = [place for place in dict.fromkeys((header.offset + shift, header.offset)) if place >= 0]
    found = [local for local in (read_local(archive.source, place) for place in places) if local]
    return next((local for local in found if local[1]), found[0] if found else None)


def scan_member(archive: ZipArchive, header: ZipHeader, shift: int) -> None:
    """Scan one entry of the directory."""
    context, source = archive.context, archive.source
    found = find_local(archive, header, shift)
    if found is None:
        context.gap(f"{header.name} lies beyond the end of the archive")
        return
    local, signed = found
    start = local.offset + local.length
    archive.covered.append((local.offset, start + header.packed))
    if local.flags & DESCRIPTOR:
        archive.described.add(start + header.packed)
    differences = compare_headers(header, local, signed=signed)
    if differences:
        context.find(rules.DISAGREE, f"{header.name}: {', '.join(differences)}", offset=local.offset)
    if start + header.packed > source.size:
        context.gap(f"{header.name} is cut off", offset=start)
    if local.offset in archive.seen:
        return
    archive.seen.add(local.offset)
    scan_content(archive, header, local, start)


def compare_headers(header: ZipHeader, local: ZipHeader, *, signed: bool) -> list[str]:
    """List the differences between the directory's entry and the local header."""
    found = []
    if not signed:
        found.append("the local header has another signature")
    if header.raw != local.raw:
        found.append(f"the local header names it {local.name}")
    if header.method != local.method:
        found.append(f"its methods are {header.method} and {local.method}")
    if (header.flags ^ local.flags) & (ENCRYPTED | PATCH):
        found.append("only one header marks it as encrypted")
    known = not local.flags & DESCRIPTOR or local.packed or local.size
    if known and (header.packed, header.size) != (local.packed, local.size):
        found.append(f"its sizes are {header.packed} and {header.size} or {local.packed} and {local.size}")
    if known and header.crc != local.crc:
        found.append("its checksums differ")
    return found


def scan_content(archive: ZipArchive, header: ZipHeader, local: ZipHeader, start: int) -> None:
    """Scan a member's content as either header describes it."""
    context = archive.context
    if not header.packed and not local.packed:
        if find_declaration(archive.kind, header.name) is not Declared.NOTHING:
            context.gap(f"{header.name} should be a pickle, and is empty")
        return
    raw = clip_range(archive.source, start, max(header.packed, 0 if local.flags & DESCRIPTOR else local.packed))
    claims = (header.flags | local.flags) & (ENCRYPTED | PATCH)
    for method in dict.fromkeys((header.method, local.method)):
        with open_content(context, raw, method, header.crc) as content:
            if content is None:
                what = "encrypted" if method == AES else f"packed by method {method}, which this scanner does not read"
                context.gap(f"{header.name} is {what}")
            elif claims and not content.whole:
                context.gap(f"{header.name} is encrypted")
            else:
                check_content(context, header, content, claims)
                if not scan_known_member(context, archive.kind, header.name, content.source):
                    context.descend(header.name, content.source, find_declaration(archive.kind, header.name))


def check_content(context: ScanContext, header: ZipHeader, content: MemberContent, claims: int) -> None:
    """Report how a member's content contradicts its headers."""
    if claims:
        context.find(rules.FLAGS, f"{header.name} can be read without a key", offset=header.offset)
    if content.why:
        context.gap(f"{header.name} is incomplete: {content.why}")
    elif content.whole is False:
        context.find(rules.CHECKSUM, f"{header.name} has another checksum", offset=header.offset)
    elif content.packed < header.packed:
        what = f"{header.packed - content.packed} bytes follow the end of {header.name} within its range"
        context.find(rules.DISAGREE, what, offset=header.offset)
    elif content.source.size != header.size:
        what = f"{header.name} has {content.source.size} bytes, not {header.size}"
        context.find(rules.DISAGREE, what, offset=header.offset)
