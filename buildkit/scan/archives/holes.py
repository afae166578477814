"""Bytes of a zip archive that no directory accounts for; members hidden there are found by their local headers."""

from __future__ import annotations

from buildkit.scan.archives import rules
from buildkit.scan.archives.zipcontent import clip_range, open_content
from buildkit.scan.archives.zipheaders import DESCRIPTOR, ENTRY, LOCAL, ZipHeader, read_local
from buildkit.scan.context import ScanContext
from buildkit.scan.source import RangeSource, ScanSource

WINDOW = 2**20
SEARCHED = 256 * 2**20  # bytes of one hole that are searched for headers
DESCRIPTORS = (12, 16, 20, 24)  # with or without a signature, with long or short sizes
MOST = 1000  # holes


def scan_holes(context: ScanContext, source: ScanSource, covered: list[tuple[int, int]], described: set[int]) -> None:
    """Scan the bytes before, between and after the ranges ``covered``; report ranges that overlap.

    The offsets in ``described`` may be followed by a data descriptor of 12 to 24 bytes.
    """
    at, shared, holes = 0, 0, []
    for start, end in sorted(set(covered)):
        if start > at:
            holes.append((at, start))
        elif start < at and end > start:
            shared += 1
        at = max(at, min(end, source.size))
    if at < source.size:
        holes.append((at, source.size))
    if shared:
        context.find(rules.OVERLAP, f"{shared} of its parts overlap others")
    if len(holes) > MOST:
        context.gap(f"more than {MOST} gaps lie between its members")
    for start, end in holes[:MOST]:
        if start not in described or end - start not in DESCRIPTORS:
            scan_hole(context, source, start, end)


def scan_hole(context: ScanContext, source: ScanSource, start: int, end: int) -> None:
    """Scan one hole."""
    at = find_local_header(context, source, start, end)
    if at is not None:
        if at > start:
            scan_unnamed(context, source, start, at)
        scan_by_local_headers(context, source, at, end)
    else:
        scan_unnamed(context, source, start, end)


def scan_unnamed(context: ScanContext, source: ScanSource, start: int, end: int) -> None:
    """Scan bytes that are not a member: padding, or another file before, between or after the members."""
    if is_zeros(source, start, end) or source.read(start, 4) == ENTRY:
        return
    context.descend(f"hole@{start}", RangeSource(source, start, end - start))


def is_zeros(source: ScanSource, start: int, end: int) -> bool:
    """Return whether a range holds only zeros."""
    if end - start > SEARCHED:
        return False
    return all(not source.read(at, min(WINDOW, end - at)).strip(b"\0") for at in range(start, end, WINDOW))


def find_local_header(context: ScanContext, source: ScanSource, start: int, end: int) -> int | None:
    """Return the offset of the first local header in a range, or None."""
    stop = min(end, start + SEARCHED)
    if stop < end:
        context.gap(f"only the first {SEARCHED} bytes between members were searched", offset=start)
    at = start
    while at < stop:
        part = source.read(at, min(WINDOW, stop - at) + 3)
        found = part.find(LOCAL)
        if found >= 0 and at + found < stop:
            return at + found
        at += WINDOW
    return None


def scan_by_local_headers(
    context: ScanContext, source: ScanSource, start: int, end: int, covered: list[tuple[int, int]] | None = None
) -> None:
    """Scan members by their local headers, from the one at ``start`` on.

    ``covered`` collects their byte ranges; without it, the members are hidden ones, and reported.

    Raises:
        LimitError: too many members.
    """
    at: int | None = start
    while at is not None and at < end:
        found = read_local(source, at)
        if found is None:
            context.gap("a header is cut off", offset=at)
            return
        local, _ = found
        context.budget.member()
        if covered is None:
            context.find(rules.HIDDEN, f"{local.name} is not in any directory", offset=at)
        size = scan_local_member(context, source, local, end)
        if covered is not None:
            covered.append((at, at + local.length + size))
        at = find_local_header(context, source, at + local.length + size, end)


def scan_local_member(context: ScanContext, source: ScanSource, local: ZipHeader, end: int) -> int:
    """Scan one member by its local header; return the length of its compressed content."""
    start = local.offset + local.length
    unknown = bool(local.flags & DESCRIPTOR) and not local.packed
    if unknown and not local.method:
        following = find_local_header(context, source, start, end)
        local_size = (end if following is None else following) - start
    else:
        local_size = end - start if unknown else min(local.packed, max(0, end - start))
    if local_size <= 0:
        return 0
    with open_content(context, clip_range(source, start, local_size), local.method, local.crc) as content:
        if content is None:
            context.gap(f"{local.name} is packed by method {local.method}, which this scanner does not read")
            return local_size
        if content.why:
            context.gap(f"{local.name} is incomplete: {content.why}")
        if content.source.size:
            context.descend(local.name, content.source)
        return content.packed if unknown else local_size
