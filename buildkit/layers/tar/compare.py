"""Compare two tars of one layer: which members differ, and in which fields.

Pure, given streams. Both tars are read once for the fields of each member and the hash of its content, and a second
time up to the last difference to explain. Only small contents are held in memory, two at a time. Every differing byte
shows up in a named difference: fields, content, the encoding of a header, padding, order, or the end.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from buildkit.layers.tar.content_diff import READ, ContentDifference, explain_bytes, explain_content, kind_of, shorten
from buildkit.layers.tar.header import BLOCK
from buildkit.layers.tar.reader import HEADER, TarHeader, TarReader, format_raw_text

Open = Callable[[], Iterator[bytes]]
"""Opens an uncompressed tar; called again for the second pass."""

EACH = 5  # differences reported of each field
_Place = tuple[bytes, int]  # a path, and which of the members of that path


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference: the member (empty for the tar as a whole), the field, and its value on either side."""

    member: str
    field: str
    first: str
    second: str

    def __str__(self) -> str:
        where = f"{self.member}: " if self.member else ""
        return f"{where}{self.field}: {self.first} ≠ {self.second}"

    def as_json(self) -> dict[str, str]:
        """Return ``{"member", "field", "first", "second"}``."""
        return {"member": self.member, "field": self.field, "first": self.first, "second": self.second}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The first differences of each field, in the order of members, and the number of further ones by field."""

    differences: tuple[Difference, ...] = ()
    more: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        lines = [str(difference) for difference in self.differences]
        lines += [f"and {count} more: {field}" for field, count in self.more]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return ``{"differences": [...], "more": {FIELD: COUNT}}``."""
        return {"differences": [found.as_json() for found in self.differences], "more": dict(self.more)}


@dataclass(frozen=True, slots=True)
class _MemberRecord:
    fields: dict[str, str]
    header: bytes
    content: bytes
    padding: bytes


def compare_tars(first: Open, second: Open, *, each: int = EACH) -> Comparison:
    """Return the differences between two layers' tars; none if all their bytes agree.

    At most ``each`` differences of a field are reported. Raises BuildError for a damaged tar; errors of the streams
    pass.
    """
    first_members, end = _index(first, "the first tar")
    second_members, other_end = _index(second, "the second tar")
    differences = _Differences(each)
    for place, record in first_members.items():
        if place not in second_members:
            differences.add(_name(place), "missing", record.fields["type"], "absent")
        else:
            differences.compare(place, record, second_members[place])
    for place, record in second_members.items():
        if place not in first_members:
            differences.add(_name(place), "missing", "absent", record.fields["type"])
    differences.compare_order(
        [place for place in first_members if place in second_members],
        [place for place in second_members if place in first_members],
    )
    if end != other_end and not differences.any:  # other sizes would move the end
        differences.add("", "end", end, other_end)
    for place, difference in _explain(first, second, differences.unexplained, list(second_members)):
        differences.explain(place, difference)
    return differences.result()


class _Differences:
    """The differences so far, and those that need a second pass to be explained."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._counts: Counter[str] = Counter()
        self._found: list[Difference | tuple[_Place, str]] = []
        self.unexplained: dict[_Place, str] = {}

    @property
    def any(self) -> bool:
        return bool(self._counts)

    def add(self, member: str, field: str, first: str, second: str) -> None:
        if self._counted(field):
            self._found.append(Difference(member=member, field=field, first=first, second=second))

    def compare(self, place: _Place, one: _MemberRecord, two: _MemberRecord) -> None:
        for field in sorted({**one.fields, **two.fields}):
            values = one.fields.get(field, "none"), two.fields.get(field, "none")
            if values[0] != values[1]:
                self.add(_name(place), field, *_render(field, *values))
        name = _name(place)
        if one.content != two.content:
            self._explain_later(place, kind_of(name))
        elif one.header != two.header and one.fields == two.fields:
            self._explain_later(place, "header")
        elif one.padding != two.padding:
            where, first, second = explain_bytes(iter((one.padding,)), iter((two.padding,)))
            self.add(name, "padding", f"{first} at {where}", second)

    def compare_order(self, one: list[_Place], two: list[_Place]) -> None:
        """Report the first member that is in another position, among the members that both tars have."""
        for number, (place, other) in enumerate(zip(one, two, strict=True)):
            if place != other:
                before = f"after {_name(one[number - 1])}" if number else "the first"
                position = two.index(place)
                self.add(_name(place), "order", before, f"after {_name(two[position - 1])}")
                return

    def explain(self, place: _Place, found: ContentDifference) -> None:
        """Replace a difference that the first pass found by its explanation."""
        at = self._found.index((place, self.unexplained[place]))
        field, first, second = found
        self._found[at] = Difference(member=_name(place), field=field, first=first, second=second)

    def result(self) -> Comparison:
        more = tuple((field, count - self._each) for field, count in self._counts.items() if count > self._each)
        return Comparison(
            differences=tuple(difference for difference in self._found if isinstance(difference, Difference)), more=more
        )

    def _explain_later(self, place: _Place, kind: str) -> None:
        if self._counted(kind):
            self._found.append((place, kind))
            self.unexplained[place] = kind

    def _counted(self, field: str) -> bool:
        self._counts[field] += 1
        return self._counts[field] <= self._each


def _index(opened: Open, what: str) -> tuple[dict[_Place, _MemberRecord], str]:
    members: dict[_Place, _MemberRecord] = {}
    reader = TarReader(opened(), what)
    for place, header in _places(reader):
        hasher = hashlib.sha256()
        for chunk in reader.content():
            hasher.update(chunk)
        padding = reader.padding()
        members[place] = _MemberRecord(
            header.fields,
            hashlib.sha256(header.raw).digest(),
            hasher.digest(),
            padding if any(padding) else bytes(len(padding)),
        )
    return members, reader.end


def _places(reader: TarReader) -> Iterator[tuple[_Place, TarHeader]]:
    times: Counter[bytes] = Counter()
    for header in reader:
        yield (header.path, times[header.path]), header
        times[header.path] += 1


def _explain(
    first: Open, second: Open, unexplained: dict[_Place, str], order: list[_Place]
) -> Iterator[tuple[_Place, ContentDifference]]:
    """Explain the differences of ``unexplained`` members in their contents or the encoding of their headers.

    They come in the order of the first tar. The second tar is read on while its members come in the same order, else
    again from its start.
    """
    if not unexplained:
        return
    where = {place: number for number, place in enumerate(order)}
    reader, other = TarReader(first(), "the first tar"), TarReader(second(), "the second tar")
    others = _places(other)
    passed = -1
    left = len(unexplained)
    for place, header in _places(reader):
        if place not in unexplained:
            continue
        if where[place] <= passed:
            other = TarReader(second(), "the second tar")
            others = _places(other)
        passed = where[place]
        counterpart = next(found for key, found in others if key == place)
        explain = _explain_header if unexplained[place] == "header" else _explain_member
        yield place, explain(_name(place), (header, reader), (counterpart, other))
        left -= 1
        if not left:
            return


def _explain_header(
    _path: str, one: tuple[TarHeader, TarReader], two: tuple[TarHeader, TarReader]
) -> ContentDifference:
    formats = one[0].format, two[0].format
    if formats[0] != formats[1]:
        return "header", *formats
    fields = ((name, *(header.raw[-BLOCK:][part] for header in (one[0], two[0]))) for name, part in HEADER.items())
    for name, first, second in fields:
        if first != second:
            return f"header, {name}", *shorten(repr(first), repr(second))
    where, first_byte, second_byte = explain_bytes(iter((one[0].raw,)), iter((two[0].raw,)))
    return f"header, {where}", first_byte, second_byte


def _explain_member(path: str, one: tuple[TarHeader, TarReader], two: tuple[TarHeader, TarReader]) -> ContentDifference:
    contents = one[1].content(), two[1].content()
    if max(one[0].size, two[0].size) > READ:
        return explain_bytes(*contents)
    return explain_content(path, *map(b"".join, contents))


def _name(place: _Place) -> str:
    path, time = place
    return format_raw_text(path) + (f" (entry {time + 1} of this name)" if time else "")


def _render(field: str, first: str, second: str) -> tuple[str, str]:
    if field == "mtime":
        return _format_time(first), _format_time(second)
    one, two = shorten(first, second)
    return one or "empty", two or "empty"


def _format_time(seconds: str) -> str:
    with suppress(ValueError, OverflowError, OSError):
        moment = dt.datetime.fromtimestamp(float(seconds), dt.UTC)
        return f"{seconds} ({moment:%Y-%m-%d %H:%M:%S} UTC)"
    return seconds
