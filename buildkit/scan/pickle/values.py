"""Abstract values of the pickle machine: what is known of an object without making it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

KEPT = 64  # entries of a list or dict that are kept: the first
BRACKETS = {"list": "[]", "dict": "{}", "set": "{}"}
KEPT_TEXT = 512  # bytes of a text that are kept
PLAIN = frozenset({"__dict__", "__doc__"})  # special names that any object may have
SPECIAL = 4  # special keys of a dict that are kept: one is enough for a finding

Value: TypeAlias = object
"""``None``, bool, int, float, str and tuples stand for themselves; everything else is one of the classes here."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """The global ``module.name``; ``name`` may be dotted. ``offset`` is where the stream names it.

    ``renamed``: the protocol is one in which an unpickler maps Python 2 names.
    """

    module: str
    name: str
    offset: int
    renamed: bool = True

    @property
    def path(self) -> str:
        """Dotted path, ``module.name``."""
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(slots=True, eq=False)
class CallResult:
    """The result of calling ``callee``; ``state`` is the last that BUILD set, ``builds`` how many it set."""

    callee: Value
    args: Value
    state: Value = None
    builds: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ByteString:
    """``size`` bytes at ``start`` of the source."""

    start: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class LongText:
    """A text too long to keep; ``head`` is its beginning. ``escaped``: its bytes are a line with escapes, not UTF-8."""

    head: str
    start: int
    size: int
    escaped: bool = False


@dataclass(slots=True, eq=False)
class ContainerValue:
    """A list, set or dict (keys and values alternate): its first entries, and how many there are.

    Of all keys of a dict: ``special`` are those between double underscores, ``computed`` is whether one is no constant.
    """

    kind: str
    kept: tuple[Value, ...] | list[Value] = ()
    count: int = 0
    special: tuple[str, ...] = ()
    computed: bool = False

    def add(self, values: list[Value]) -> None:
        """Add ``values``."""
        self.count += len(values)
        if len(self.kept) < KEPT:
            if isinstance(self.kept, tuple):
                self.kept = []
            self.kept.extend(values[: KEPT - len(self.kept)])
        if self.kind == "dict":
            self.note_keys(values[::2])

    def note_keys(self, keys: list[Value]) -> None:
        """Note what is special about keys, however many there are."""
        for key in keys:
            if type(key) is str:
                if key[:2] == "__" == key[-2:] and key not in PLAIN and len(self.special) < SPECIAL:
                    self.special += (key,)
            elif isinstance(key, CallResult | UnknownValue | LongText):
                self.computed = True

    @property
    def whole(self) -> bool:
        """Whether all entries were kept."""
        return self.count == len(self.kept)

    def get(self, key: str) -> Value:
        """Return the value of a dict's ``key`` among the kept entries; None if there is none."""
        result: Value = None
        for at in range(0, len(self.kept) - 1, 2):
            entry = self.kept[at]
            if isinstance(entry, str) and entry == key:
                result = self.kept[at + 1]
        return result


class UnknownValue:
    """A value of which nothing is known."""

    __slots__ = ()


UNKNOWN: Final = UnknownValue()


def find_globals(value: Value, most: int = 256) -> Iterator[Global]:
    """Yield the globals that ``value`` holds, looking at no more than ``most`` values and at none twice.

    Arguments of a call are not part of its result: they were reported with the call.
    """
    seen: set[int] = set()
    todo = [value]
    while todo and len(seen) < most:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, Global):
            yield current
        elif isinstance(current, tuple):
            todo.extend(current[:KEPT])
        elif isinstance(current, ContainerValue):
            todo.extend(current.kept)


def format_value(value: Value, width: int = 120, depth: int = 3) -> str:
    """Format ``value`` for a message: printable ASCII, about ``width`` characters at most."""
    if isinstance(value, Global):
        text = value.path
    elif isinstance(value, CallResult):
        text = f"{format_value(value.callee, 40, depth - 1)}(…)" if depth else "…"
    elif isinstance(value, ByteString):
        text = f"<{value.size} bytes>"
    elif isinstance(value, LongText):
        text = ascii(value.head)
    elif isinstance(value, tuple | ContainerValue):
        entries = value[:4] if isinstance(value, tuple) else value.kept[:4]
        more = ", …" if (len(value) if isinstance(value, tuple) else value.count) > 4 else ""
        ends = BRACKETS[value.kind] if isinstance(value, ContainerValue) else "()"
        inner = ", ".join(format_value(entry, width // 2, depth - 1) for entry in entries) if depth else "…"
        text = f"{ends[0]}{inner}{more}{ends[1]}"
    elif isinstance(value, UnknownValue):
        text = "?"
    else:
        text = ascii(value) if not isinstance(value, int) or value.bit_length() < 200 else "<a large number>"
    return text if len(text) <= width else text[: width - 1] + "…"
