"""What an expression of a template may be: constants that are known, and where anything else comes from."""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from jinja2 import TemplateError, Undefined

from buildkit.scan.limits import LimitError

_T = TypeVar("_T")
MOST_TEXT = 4096  # characters of a constant that is followed
_MOST_KNOWN = 24  # constants that one expression may be
_MOST_COUNT = 10_000
_STEPS = 100_000  # templates of well-known models take less than a tenth
ERRORS = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, TemplateError)


class Origin(enum.Flag):
    """Where values that are not known come from."""

    NONE = 0
    NUMBER = enum.auto()  # a number or truth value
    OUTSIDE = enum.auto()  # the caller's data, whole or in parts
    MADE = enum.auto()  # a text that the template may have assembled
    REACHED = enum.auto()  # taken from another value by a name that is not known
    TOKENS = enum.auto()  # a variable that the tokenizer's special tokens may set: a text, or a list of them
    TOKEN = enum.auto()  # an element of such a list
    NAMESPACE = enum.auto()  # an object whose text has the names of its attributes


@dataclass(frozen=True, slots=True)
class Possible:
    """One of the ``known`` constants, or something from ``origin``."""

    known: tuple[object, ...] = ()
    origin: Origin = Origin.NONE

    @property
    def is_number(self) -> bool:
        """Whether it can be nothing but a number."""
        numbers = all(value is None or isinstance(value, int | float) for value in self.known)
        return numbers and self.origin in (Origin.NONE, Origin.NUMBER)

    @property
    def texts(self) -> tuple[str, ...]:
        """The known texts, also those in lists and dictionaries."""
        return tuple(text for value in self.known for text in iterate_texts(value))

    def widen(self) -> Possible:
        """Return it without constants."""
        return Possible((), self.origin | _origin_of(self.known))


OUTSIDE = Possible((), Origin.OUTSIDE)
MADE = Possible((), Origin.MADE)
NUMBER = Possible((), Origin.NUMBER)
NAMESPACE = Possible((), Origin.NAMESPACE)
TOKENS = Possible((), Origin.TOKENS | Origin.OUTSIDE)
NOTHING = Possible()


def iterate_texts(value: object) -> Iterable[str]:
    """Yield the texts in a constant."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from iterate_texts(inner)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from iterate_texts(pair)


def _origin_of(known: tuple[object, ...]) -> Origin:
    origin = Origin.NONE
    for value in known:
        origin |= Origin.NUMBER if value is None or isinstance(value, int | float | range) else Origin.MADE
    return origin


def union(*values: Possible) -> Possible:
    """Return what any of them may be; too many constants are no longer followed."""
    known = {(type(item), repr(item)): item for value in values for item in value.known}
    origin = Origin.NONE
    for value in values:
        origin |= value.origin
    one = Possible(tuple(known[key] for key in sorted(known, key=str)), origin)
    return one if len(known) <= _MOST_KNOWN else one.widen()


class Steps:
    """Count evaluations."""

    def __init__(self) -> None:
        self._left = _STEPS

    def take(self, count: int = 1) -> None:
        """Count some.

        Raises:
            LimitError: there were too many.
        """
        self._left -= count
        if self._left < 0:
            raise LimitError(f"a template that takes more than {_STEPS} steps to follow")


def combine(steps: Steps, values: list[Possible], compute: Callable[..., object], otherwise: Possible) -> Possible:
    """Return ``compute`` of every combination of constants; ``otherwise`` also, where something is not known."""
    results: list[object] = []
    rest = otherwise if any(value.origin for value in values) else NOTHING
    count = 1
    for value in values:
        count *= len(value.known)
    if count > _MOST_KNOWN * 4:
        return union(otherwise, NUMBER if all(value.is_number for value in values) else MADE)
    for chosen in itertools.product(*(value.known for value in values)):
        steps.take(1 + sum(len(item) if isinstance(item, str | list | tuple) else 1 for item in chosen) // 64)
        try:
            result = _plain(compute(*chosen))
        except UnfollowedError:
            rest = union(rest, MADE)
        except ERRORS:
            continue  # rendering it fails here as well
        else:
            results.append(result)
    return union(Possible(tuple(results)), rest)


class UnfollowedError(Exception):
    """A constant is too large, or not of a plain type: it is not followed."""


def _plain(value: object, depth: int = 0) -> object:
    """Return a constant of plain types."""
    if isinstance(value, Undefined):
        return ""
    if value is None or isinstance(value, bool | float | range):
        return value
    if isinstance(value, int):
        if value.bit_length() > 256:
            raise UnfollowedError
        return int(value)
    if isinstance(value, str):
        if len(value) > MOST_TEXT:
            raise UnfollowedError
        return str.__str__(value)
    return _plain_container(value, depth)


def _plain_container(value: object, depth: int) -> object:
    if depth > 6:
        raise UnfollowedError
    if isinstance(value, dict):
        if len(value) > MOST_TEXT:
            raise UnfollowedError
        return {_plain(key, depth + 1): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, bytes | type) or not hasattr(value, "__iter__"):
        raise UnfollowedError
    items = list(itertools.islice(value, MOST_TEXT + 1))
    if len(items) > MOST_TEXT:
        raise UnfollowedError
    plain = [_plain(inner, depth + 1) for inner in items]
    return tuple(plain) if isinstance(value, tuple) else plain


def elements(value: Possible) -> Possible:
    """Return what an element may be: of a list, a character of a text, a key or a value of a dictionary."""
    parts: list[object] = []
    for item in value.known:
        if isinstance(item, dict):
            parts += [*item.keys(), *item.values()]
        elif isinstance(item, str | list | tuple):
            parts += item
    numbers = NUMBER if any(isinstance(item, range) for item in value.known) else NOTHING
    return union(Possible(tuple(parts)), numbers, derived(value))


def derived(value: Possible) -> Possible:
    """Return where an element or attribute comes from, of those values that are not known."""
    if Origin.TOKENS in value.origin:
        return Possible((), value.origin & (Origin.MADE | Origin.NUMBER) | Origin.OUTSIDE | Origin.TOKEN)
    outside = Origin.OUTSIDE if value.origin & ~(Origin.NUMBER | Origin.MADE) else Origin.NONE
    return Possible((), value.origin & (Origin.MADE | Origin.NUMBER) | outside)


def check_count(number: object, size: int = 1) -> None:
    """Raise UnfollowedError if ``number`` times ``size`` is more than is followed."""
    if isinstance(number, range):
        number = length_of(number)
    if isinstance(number, int | float) and abs(number) * max(size, 1) > _MOST_COUNT:
        raise UnfollowedError


_WIDTH = re.compile(r"\d{4,}|\*")


def check_widths(text: object) -> None:
    """Raise UnfollowedError if a format has a width that is too large, or given elsewhere."""
    if isinstance(text, str) and ("%" in text or "{" in text) and _WIDTH.search(text):
        raise UnfollowedError


def add_texts(first: object, second: object) -> object:
    """Return two values as they are printed one after the other."""
    return f"{first}{second}"


def length_of(value: str | list[object] | tuple[object, ...] | dict[object, object] | range) -> int:
    """Return the length; that of a huge range is cut."""
    try:
        return len(value)
    except OverflowError:
        return 2**63


def has_text(values: Sequence[Possible]) -> bool:
    """Return whether a value may be a text that the template brings."""
    return any(value.texts or Origin.MADE in value.origin for value in values)


def merged(values: Sequence[Possible]) -> Possible:
    """Return where a list of these values comes from."""
    return union(*(value.widen() for value in values))


def split(given: Sequence[_T], names: Sequence[str]) -> tuple[Sequence[_T], dict[str, _T]]:
    """Return the values without and with names; those with names come last."""
    count = len(given) - len(names)
    return given[:count], dict(zip(names, given[count:], strict=True))


def make_dict(args: Sequence[object], named: Mapping[str, object]) -> object:
    """Return ``dict(*args, **named)``."""
    return dict(*args, **named)
