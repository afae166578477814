"""Abstract values of the pickle machine: as much of an object as can be told without making it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

KEPT = 64  # entries of a list or dict that are looked at; of longer ones the first
BRACKETS = {"list": "[]", "dict": "{}", "set": "{}"}
TEXT = 512  # bytes of a text that are kept

Value: TypeAlias = object
"""``None``, bool, int, float, str and tuples stand for themselves; everything else is one of the classes here."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """What ``module.name`` is where it is loaded; ``name`` may be dotted. ``offset`` is where it is named."""

    module: str
    name: str
    offset: int

    @property
    def path(self) -> str:
        """The way to it, dotted."""
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(slots=True, eq=False)
class CallResult:
    """What calling ``callee`` gave; ``state`` is what BUILD handed to it last."""

    callee: Value
    args: Value
    state: Value = None


@dataclass(frozen=True, slots=True, eq=False)
class ByteString:
    """``size`` bytes at ``start`` of the source."""

    start: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class LongText:
    """A text too long to keep; ``head`` is how it begins."""

    head: str
    start: int
    size: int


@dataclass(slots=True, eq=False)
class Container:
    """A list, set or dict (whose keys and values alternate): its first entries, and how many there are."""

    kind: str
    kept: tuple[Value, ...] | list[Value] = ()
    count: int = 0

    def add(self, values: list[Value]) -> None:
        """Put ``values`` into it."""
        self.count += len(values)
        if len(self.kept) < KEPT:
            if isinstance(self.kept, tuple):
                self.kept = []
            self.kept.extend(values[: KEPT - len(self.kept)])

    @property
    def whole(self) -> bool:
        """Whether all entries were kept."""
        return self.count == len(self.kept)

    def get(self, key: str) -> Value:
        """The value of a dict's ``key``, as far as it was kept; None where there is none."""
        found: Value = None
        for at in range(0, len(self.kept) - 1, 2):
            known = self.kept[at]
            if isinstance(known, str) and known == key:
                found = self.kept[at + 1]
        return found


class UnknownValue:
    """A value of which nothing is known."""

    __slots__ = ()


UNKNOWN: Final = UnknownValue()


def find_globals(value: Value, most: int = 256) -> Iterator[Global]:
    """Globals that ``value`` holds, looking at no more than ``most`` values and none twice.

    What went into a call is no part of what came out of it: that was told when the call was.
    """
    seen: set[int] = set()
    todo = [value]
    while todo and len(seen) < most:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Global):
            yield one
        elif isinstance(one, tuple):
            todo.extend(one[:KEPT])
        elif isinstance(one, Container):
            todo.extend(one.kept)


def format_value(value: Value, width: int = 120, depth: int = 3) -> str:
    """``value`` for a message: printable ASCII, at most about ``width`` characters."""
    if isinstance(value, Global):
        text = value.path
    elif isinstance(value, CallResult):
        text = f"{format_value(value.callee, 40, depth - 1)}(…)" if depth else "…"
    elif isinstance(value, ByteString):
        text = f"<{value.size} bytes>"
    elif isinstance(value, LongText):
        text = ascii(value.head)
    elif isinstance(value, tuple | Container):
        entries = value[:4] if isinstance(value, tuple) else value.kept[:4]
        more = ", …" if (len(value) if isinstance(value, tuple) else value.count) > 4 else ""
        ends = BRACKETS[value.kind] if isinstance(value, Container) else "()"
        inner = ", ".join(format_value(one, width // 2, depth - 1) for one in entries) if depth else "…"
        text = f"{ends[0]}{inner}{more}{ends[1]}"
    elif isinstance(value, UnknownValue):
        text = "?"
    else:
        text = ascii(value) if not isinstance(value, int) or value.bit_length() < 200 else "<a large number>"
    return text if len(text) <= width else text[: width - 1] + "…"
