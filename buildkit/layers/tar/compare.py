"""Two tars of one layer, compared: in which member they differ, and in which of its fields.

Pure, given streams. Both are read once for what each member says and the hash of its content, and once more, where
contents differ, up to the last member that is to be explained: contents are never held, but for small ones, two at a
time. Two tars that differ in a byte differ in something that is named: fields, content, the way a header is written,
padding, order, or the end.
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
"""Opens an uncompressed tar; called again for a second look."""

EACH = 5  # differences told of each field
_Place = tuple[bytes, int]  # a path, and which of the members of that path


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs: the member (empty for the tar as a whole), the field, and what it is on either side."""

    member: str
    field: str
    first: str
    second: str

    def __str__(self) -> str:
        where = f"{self.member}: " if self.member else ""
        return f"{where}{self.field}: {self.first} ≠ {self.second}"

    def as_json(self) -> dict[str, str]:
        """All four, under their names."""
        return {"member": self.member, "field": self.field, "first": self.first, "second": self.second}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The first differences of each field, in the order of members, and how many more there are by field."""

    differences: tuple[Difference, ...] = ()
    more: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        lines = [str(difference) for difference in self.differences]
        lines += [f"and {count} more: {field}" for field, count in self.more]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """``{"differences": [...], "more": {FIELD: COUNT}}``."""
        return {"differences": [one.as_json() for one in self.differences], "more": dict(self.more)}


@dataclass(frozen=True, slots=True)
class _Seen:
    fields: dict[str, str]
    header: bytes
    content: bytes
    padding: bytes


def compare_tars(first: Open, second: Open, *, each: int = EACH) -> Comparison:
    """What differs between two layers' tars; no differences if all of their bytes agree.

    At most ``each`` differences of a field are told. Raises BuildError for a tar that is damaged, and whatever the
    streams raise.
    """
    one, end = _index(first, "the first tar")
    two, other_end = _index(second, "the second tar")
    found = _Found(each)
    for place, seen in one.items():
        if place not in two:
            found.add(_name(place), "missing", seen.fields["type"], "not there")
        else:
            found.compare(place, seen, two[place])
    for place, seen in two.items():
        if place not in one:
            found.add(_name(place), "missing", "not there", seen.fields["type"])
    found.compare_order([place for place in one if place in two], [place for place in two if place in one])
    if end != other_end and not found.any:  # sizes above move it
        found.add("", "end", end, other_end)
    for place, difference in _explain(first, second, found.unexplained, list(two)):
        found.explain(place, difference)
    return found.result()


class _Found:
    """Differences so far, and those of which only a second look tells more."""

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

    def compare(self, place: _Place, one: _Seen, two: _Seen) -> None:
        for field in sorted({**one.fields, **two.fields}):
            values = one.fields.get(field, "none"), two.fields.get(field, "none")
            if values[0] != values[1]:
                self.add(_name(place), field, *_render(field, *values))
        name = _name(place)
        if one.content != two.content:
            self._look_again(place, kind_of(name))
        elif one.header != two.header and one.fields == two.fields:
            self._look_again(place, "header")
        elif one.padding != two.padding:
            where, first, second = explain_bytes(iter((one.padding,)), iter((two.padding,)))
            self.add(name, "padding", f"{first} at {where}", second)

    def compare_order(self, one: list[_Place], two: list[_Place]) -> None:
        """Name the first member that is not where the other tar has it, counting those that both have."""
        for number, (place, other) in enumerate(zip(one, two, strict=True)):
            if place != other:
                before = f"after {_name(one[number - 1])}" if number else "the first"
                there = two.index(place)
                self.add(_name(place), "order", before, f"after {_name(two[there - 1])}")
                return

    def explain(self, place: _Place, found: ContentDifference) -> None:
        """Put what a second look told where the first one stands."""
        at = self._found.index((place, self.unexplained[place]))
        field, first, second = found
        self._found[at] = Difference(member=_name(place), field=field, first=first, second=second)

    def result(self) -> Comparison:
        more = tuple((field, count - self._each) for field, count in self._counts.items() if count > self._each)
        return Comparison(differences=tuple(one for one in self._found if isinstance(one, Difference)), more=more)

    def _look_again(self, place: _Place, kind: str) -> None:
        if self._counted(kind):
            self._found.append((place, kind))
            self.unexplained[place] = kind

    def _counted(self, field: str) -> bool:
        self._counts[field] += 1
        return self._counts[field] <= self._each


def _index(opened: Open, what: str) -> tuple[dict[_Place, _Seen], str]:
    members: dict[_Place, _Seen] = {}
    reader = TarReader(opened(), what)
    for place, header in _places(reader):
        hasher = hashlib.sha256()
        for chunk in reader.content():
            hasher.update(chunk)
        padding = reader.padding()
        members[place] = _Seen(
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
    first: Open, second: Open, wanted: dict[_Place, str], order: list[_Place]
) -> Iterator[tuple[_Place, ContentDifference]]:
    """What differs in the contents of ``wanted`` (in the order of the first tar), or in how a header is written.

    The second tar is read on as long as its members come in the same order, and again from its beginning where not.
    """
    if not wanted:
        return
    where = {place: number for number, place in enumerate(order)}
    reader, other = TarReader(first(), "the first tar"), TarReader(second(), "the second tar")
    others = _places(other)
    passed = -1
    left = len(wanted)
    for place, header in _places(reader):
        if place not in wanted:
            continue
        if where[place] <= passed:
            other = TarReader(second(), "the second tar")
            others = _places(other)
        passed = where[place]
        there = next(found for key, found in others if key == place)
        look = _explain_header if wanted[place] == "header" else _explain_member
        yield place, look(_name(place), (header, reader), (there, other))
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
        return _say_time(first), _say_time(second)
    one, two = shorten(first, second)
    return one or "empty", two or "empty"


def _say_time(seconds: str) -> str:
    with suppress(ValueError, OverflowError, OSError):
        moment = dt.datetime.fromtimestamp(float(seconds), dt.UTC)
        return f"{seconds} ({moment:%Y-%m-%d %H:%M:%S} UTC)"
    return seconds
