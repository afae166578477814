"""Read JSON that somebody else wrote: a registry, an image, an advisory service.

`parse_json` returns a `JsonValue`, which knows its path in the document. Its methods check the type and the limits of
the value that they return, so a caller never handles a value of a type that it does not expect. Every error is a
MalformedError whose message names the path (``layers[2].digest is not a digest``) and contains nothing unprintable.

Only UTF-8 and the JSON of RFC 8259 are accepted: no byte order mark, no ``NaN``, and no text that could not be written
again as UTF-8. An object with a key twice is refused, because readers differ in which of the two they take; and
`JsonValue.with_keys` refuses keys that other readers may take for known ones.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Set
from typing import Any, TypeVar

from buildkit.lazy_dataclass import dataclass

MAX_NESTING = 64
MAX_TEXT = 1 << 20
_MAX_SHOWN = 60
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_/-][A-Za-z0-9_./-]*")
_Result = TypeVar("_Result")


class MalformedError(ValueError):
    """A document that is not what it should be, or exceeds a limit. The message says what is wrong and where."""


def parse_json(data: bytes, *, limit: int, what: str = "it") -> JsonValue:
    """Parse a document of at most ``limit`` bytes; ``what`` names it in messages (``the manifest``).

    Raises MalformedError if it is too large, not UTF-8, not JSON, nested deeper than `MAX_NESTING`, or if an object has
    a key twice.
    """
    if len(data) > limit:
        raise MalformedError(f"{what} is larger than {limit} bytes")
    try:
        raw = json.loads(data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_make_object)
    except _DoubledKeyError as error:
        raise MalformedError(f"{what} has the key {_join('', error.key)} twice in one object") from error
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{what} is not JSON ({type(error).__name__})") from error
    if _is_deeper(raw, MAX_NESTING):
        raise MalformedError(f"{what} is nested more than {MAX_NESTING} deep")
    return JsonValue(raw, what=what)


def inflate_limited(packed: bytes, *, limit: int, what: str = "it") -> bytes:
    """Decompress zlib data; raises MalformedError for data that is damaged, cut off or more than ``limit`` bytes."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, limit)
    except zlib.error as error:
        raise MalformedError(f"{what} is not zlib data") from error
    if inflater.unconsumed_tail or not inflater.eof:
        raise MalformedError(f"{what} is cut off, or larger than {limit} bytes unpacked")
    return data


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value of a parsed document. ``raw`` is the unchecked Python value, ``path`` its place in the document."""

    raw: Any
    path: str = ""
    what: str = "it"

    def member(self, key: str) -> JsonValue:
        """Return a member of an object; raises MalformedError if it is missing."""
        members = self._typed(dict, "an object")
        if key not in members:
            raise self.error(f"has no `{key}`")
        return self._child(members[key], key)

    def has(self, key: str) -> bool:
        """Return whether an object has a member, null included."""
        return key in self._typed(dict, "an object")

    def with_keys(self, known: Set[str], *, others: bool = False) -> JsonValue:
        """Return this object if all its keys are ``known``; with ``others``, if none is known but for its case.

        Go's JSON, with which most programs for images read, takes ``Layers`` for ``layers``. Raises MalformedError.
        """
        folded = {name.casefold(): name for name in sorted(known)}
        for key in self._typed(dict, "an object"):
            if key in known:
                continue
            if meant := folded.get(key.casefold()):
                raise self.error(f"has the key {_join('', key)}, which some programs take for `{meant}`")
            if not others:
                raise self.error(f"has the unknown key {_join('', key)}")
        return self

    def find(self, key: str) -> JsonValue | None:
        """Return a member of an object; None if it is missing or null."""
        raw = self._typed(dict, "an object").get(key)
        return None if raw is None else self._child(raw, key)

    def raw_object(self) -> dict[str, Any]:
        """Return an object as it is, its members unchecked."""
        members: dict[str, Any] = self._typed(dict, "an object")
        return members

    def members(self, limit: int) -> dict[str, JsonValue]:
        """Return all members of an object."""
        members = self._limited(self._typed(dict, "an object"), limit, "members")
        return {self._checked(key): self._child(raw, key) for key, raw in members.items()}

    def items(self, limit: int) -> list[JsonValue]:
        """Return the items of a list."""
        items = self._limited(self._typed(list, "a list"), limit, "items")
        return [self._item(raw, number) for number, raw in enumerate(items)]

    def row(self, length: int) -> list[JsonValue]:
        """Return the items of a list that must have exactly ``length``."""
        if len(self._typed(list, "a list")) != length:
            raise self.error(f"does not have {length} items")
        return self.items(length)

    def text(self, limit: int = MAX_TEXT) -> str:
        """Return a text of at most ``limit`` characters that can be written as UTF-8."""
        text: str = self._typed(str, "a text")
        if len(text) > limit:
            raise self.error(f"is longer than {limit} characters")
        return self._checked(text)

    def texts(self, limit: int) -> tuple[str, ...]:
        """Return the items of a list of texts."""
        items = self._limited(self._typed(list, "a list"), limit, "items")
        if _are_texts(items):
            return tuple(items)
        return tuple(item.text() for item in self.items(limit))

    def text_table(self, limit: int, text_limit: int = MAX_TEXT) -> dict[str, str]:
        """Return the members of an object whose values are texts of at most ``text_limit`` characters."""
        return {key: value.text(text_limit) for key, value in self.members(limit).items()}

    def integer(self, low: int, high: int) -> int:
        """Return an integer between ``low`` and ``high``, both included; true and 1.0 are none."""
        if type(self.raw) is not int:
            raise self.error("is not an integer")
        if not low <= self.raw <= high:
            raise self.error(f"is not between {low} and {high}")
        return self.raw

    def number(self, low: float, high: float) -> float:
        """Return an integer or a fraction between ``low`` and ``high``, both included."""
        if type(self.raw) not in (int, float) or not low <= self.raw <= high:
            raise self.error(f"is not a number between {low:g} and {high:g}")
        return float(self.raw)

    def base64(self, limit: int, *, url_safe: bool = False) -> bytes:
        """Decode a text of base64 to at most ``limit`` bytes; with ``url_safe``, of either alphabet."""
        text = self.text(4 * (limit // 3 + 1))
        if url_safe:
            text = text.replace("-", "+").replace("_", "/")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise self.error("is not base64") from error
        if len(data) > limit:
            raise self.error(f"is longer than {limit} bytes")
        return data

    def parsed(self, parse: Callable[[str], _Result], what: str) -> _Result:
        """Return the result of ``parse`` for a text; its ValueError means that the text is not ``what``."""
        try:
            return parse(self.text())
        except MalformedError:
            raise
        except ValueError as error:
            raise self.error(f"is not {what}") from error

    def error(self, problem: str) -> MalformedError:
        """Return the error for a ``problem`` of this value (``is missing``), to be raised."""
        return MalformedError(f"{self.path or self.what} {problem}")

    def _typed(self, kind: type, name: str) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(self.raw, kind):
            raise self.error(f"is not {name}")
        return self.raw

    def _limited(self, container: Any, limit: int, name: str) -> Any:  # noqa: ANN401 - JSON
        if len(container) > limit:
            raise self.error(f"has more than {limit} {name}")
        return container

    def _checked(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.error("contains a text that is not Unicode") from error
        return text

    def _child(self, raw: object, key: str) -> JsonValue:
        return JsonValue(raw, _join(self.path, key), self.what)

    def _item(self, raw: object, number: int) -> JsonValue:
        return JsonValue(raw, f"{self.path}[{number}]", self.what)


class _DoubledKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise _DoubledKeyError(key)
        members[key] = value
    return members


def _are_texts(items: list[Any]) -> bool:
    """Return whether all items are texts as `JsonValue.text` returns them, without a value for each."""
    try:
        text = "".join(items)
        text.encode()
    except (TypeError, UnicodeEncodeError):
        return False
    return len(text) <= MAX_TEXT


def _join(path: str, key: str) -> str:
    """Return the path of a member; a key that is not plain is quoted and cut, because messages contain it."""
    if len(key) <= _MAX_SHOWN and _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key[:_MAX_SHOWN])}]"


def _is_deeper(raw: object, limit: int) -> bool:
    level = [raw]
    for _ in range(limit + 1):
        containers = [value for value in level if isinstance(value, dict | list)]
        if not containers:
            return False
        level = [child for value in containers for child in (value.values() if isinstance(value, dict) else value)]
    return True


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
