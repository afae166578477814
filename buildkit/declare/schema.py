"""Schemas of TOML values: one definition both validates a file and renders its JSON Schema.

``read`` never raises: it appends a Problem for everything wrong and returns the rest, so that all problems of a file
are reported at once. Schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Protocol

from buildkit.declare.written_secrets import IN_URL, INSTEAD, has_login, hide_logins
from buildkit.errors import Problem
from buildkit.lazy_dataclass import dataclass

_LONGEST_WORD = 64
_MOST_PROBLEMS = 500
_MOST_SHOWN = 300  # characters of foreign text in a message
_MOST_BITS = 128
_NAMES = {dict: "a table", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}


def format_type(value: object) -> str:
    """Return the TOML name of the value's type, for a message."""
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def suggest_word(word: str, words: list[str]) -> str:
    """Return a hint that names the most similar of ``words``, or the empty string."""
    close = find_similar(word, words)
    return f"did you mean `{close}`?" if close else ""


def find_similar(word: str, words: list[str]) -> str | None:
    """Return the most similar of ``words``, if any is similar."""
    from difflib import get_close_matches

    same = [one for one in words if one.casefold() == word.casefold()]
    close = same or (get_close_matches(word, words, n=1, cutoff=0.6) if len(word) <= _LONGEST_WORD else ())
    return close[0] if close else None


def format_value(value: object) -> str:
    """Return a value for a message: the beginning of a long one, the size of a huge number, no login of a URL."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    text = hide_logins(str(value))
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


@dataclass(slots=True)
class ValueLocation:
    """The place of a value (file and key), and the list that problems go to."""

    file: str
    problems: list[Problem]
    key: str = ""

    def at(self, key: str | int) -> ValueLocation:
        """Return the location of a key or an item below."""
        if isinstance(key, int):
            return ValueLocation(self.file, self.problems, f"{self.key}[{key}]")
        return ValueLocation(self.file, self.problems, f"{self.key}.{key}" if self.key else key)

    def report(self, what: str, hint: str = "") -> None:
        """Report a problem here; only the first few hundred are kept."""
        if self.has_room:
            self.problems.append(Problem(file=self.file, key=format_value(self.key), what=what, hint=hint))

    @property
    def has_room(self) -> bool:
        """Whether another problem would be kept; see ``report``."""
        return len(self.problems) < _MOST_PROBLEMS

    @property
    def faulty(self) -> bool:
        """Whether a problem was reported here or below."""
        below = (f"{self.key}.", f"{self.key}[")
        return any(problem.key == self.key or problem.key.startswith(below) for problem in self.problems)


class ValueSchema(Protocol):
    """The schema of a value."""

    def read(self, value: Any, location: ValueLocation) -> Any: ...  # noqa: ANN401, D102 - a TOML value is anything

    def schema(self) -> dict[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class TextSchema:
    """A string: all of it must match ``pattern`` (``expected`` describes it), or it is one of ``choices``.

    No string may hold a URL with a password: ``instead`` is the hint for one, ``advise`` gives that for any other.
    """

    pattern: str = ""
    expected: str = ""
    choices: tuple[str, ...] = ()
    advise: Callable[[str], str] = lambda _value: ""
    instead: str = INSTEAD

    def read(self, value: Any, location: ValueLocation) -> str | None:  # noqa: ANN401
        """Return the string, or None after a report."""
        if not isinstance(value, str):
            location.report(f"must be a string, not {format_type(value)}")
        elif has_login(value):
            location.report(IN_URL, self.instead)
        elif self.choices and value not in self.choices:
            hint = self.advise(value) or suggest_word(value, list(self.choices))
            location.report(f"`{format_value(value)}` is none of {', '.join(self.choices)}", hint)
        elif self.pattern and not re.fullmatch(self.pattern, value):
            location.report(f"`{format_value(value)}` is not {self.expected}", self.advise(value))
        elif "\0" in value:
            location.report("must not hold a NUL character")
        else:
            return value
        return None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        schema: dict[str, Any] = {"type": "string"}
        if self.choices:
            schema["enum"] = list(self.choices)
        elif not self.pattern:
            schema["pattern"] = r"^[^\x00]*$"
        if self.pattern:
            schema["pattern"] = f"^(?:{self.pattern})$"
        return schema


@dataclass(frozen=True, slots=True)
class BooleanSchema:
    """A boolean."""

    def read(self, value: Any, location: ValueLocation) -> bool | None:  # noqa: ANN401
        """Return the boolean, or None after a report."""
        if isinstance(value, bool):
            return value
        location.report(f"must be true or false, not {format_type(value)}")
        return None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class IntegerSchema:
    """A whole number between ``least`` and ``most``."""

    least: int
    most: int

    def read(self, value: Any, location: ValueLocation) -> int | None:  # noqa: ANN401
        """Return the number, or None after a report."""
        if not isinstance(value, int) or isinstance(value, bool):
            location.report(f"must be a whole number, not {format_type(value)}")
        elif not self.least <= value <= self.most:
            location.report(f"{format_value(value)} is not between {self.least} and {self.most}")
        else:
            return value
        return None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class NumberSchema:
    """A number, whole or not, between ``least`` and ``most``."""

    least: float
    most: float

    def read(self, value: Any, location: ValueLocation) -> float | None:  # noqa: ANN401
        """Return the number, or None after a report."""
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            location.report(f"must be a number, not {format_type(value)}")
        elif not self.least <= value <= self.most:  # nan is not, either
            location.report(f"{format_value(value)} is not between {self.least:g} and {self.most:g}")
        else:
            return float(value)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class ListSchema:
    """A list whose items share a schema; read as a tuple."""

    item: ValueSchema
    least: int = 0

    def read(self, value: Any, location: ValueLocation) -> tuple[Any, ...]:  # noqa: ANN401
        """Return the valid items."""
        if not isinstance(value, list):
            location.report(f"must be a list, not {format_type(value)}")
            return ()
        if len(value) < self.least:
            location.report(f"needs at least {self.least} item" + ("s" if self.least > 1 else ""))
        items = (self.item.read(item, location.at(number)) for number, item in enumerate(value))
        return tuple(item for item in items if item is not None)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        schema: dict[str, Any] = {"type": "array", "items": self.item.schema()}
        return schema | ({"minItems": self.least} if self.least else {})


@dataclass(frozen=True, slots=True)
class OneOrMoreSchema:
    """A value, or a list of at least one; read as the value or as a tuple."""

    item: ValueSchema

    def read(self, value: Any, location: ValueLocation) -> Any:  # noqa: ANN401
        """Return the value, or the valid items of the list."""
        several = ListSchema(self.item, least=1)
        return (several if isinstance(value, list) else self.item).read(value, location)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"anyOf": [self.item.schema(), ListSchema(self.item, least=1).schema()]}


@dataclass(frozen=True, slots=True)
class WordOrTableSchema:
    """A table, or a word that stands for one; read as the table."""

    table: TableSchema
    words: Mapping[str, Mapping[str, Any]]

    def read(self, value: Any, location: ValueLocation) -> Any:  # noqa: ANN401
        """Return the table's values."""
        if not isinstance(value, str):
            return self.table.read(value, location)
        if value not in self.words:
            words = " or ".join(f"`{word}`" for word in self.words)
            location.report(f"must be a table or {words}, not `{format_value(value)}`")
            return None
        return dict(self.words[value])

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"anyOf": [TextSchema(choices=tuple(self.words)).schema(), self.table.schema()]}


@dataclass(frozen=True, slots=True)
class WordOrNumberSchema:
    """A whole number, or a word that stands for one; read as the number."""

    number: IntegerSchema
    words: Mapping[str, int]

    def read(self, value: Any, location: ValueLocation) -> int | None:  # noqa: ANN401
        """Return the number, or None after a report."""
        if not isinstance(value, str):
            return self.number.read(value, location)
        if value not in self.words:
            words = " or ".join(f"`{word}`" for word in self.words)
            location.report(f"must be a whole number or {words}, not `{format_value(value)}`")
        return self.words.get(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"anyOf": [TextSchema(choices=tuple(self.words)).schema(), self.number.schema()]}


@dataclass(frozen=True, slots=True)
class MapSchema:
    """A table with free keys whose values share a schema; read as sorted pairs."""

    value: ValueSchema
    key_pattern: str = r"[A-Za-z_][A-Za-z0-9_]*"

    def read(self, value: Any, location: ValueLocation) -> tuple[tuple[str, Any], ...]:  # noqa: ANN401
        """Return the valid pairs, sorted by key."""
        if not isinstance(value, dict):
            location.report(f"must be a table, not {format_type(value)}")
            return ()
        for key in value:
            if not re.fullmatch(self.key_pattern, key):
                location.at(key).report("is not a usable name")
        pairs = ((key, self.value.read(item, location.at(key))) for key, item in sorted(value.items()))
        return tuple((key, item) for key, item in pairs if item is not None)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{self.key_pattern})$"},
            "additionalProperties": self.value.schema(),
        }


@dataclass(frozen=True, slots=True)
class KeySchema:
    """One key of a table: its schema, its description, and whether it is required."""

    value: ValueSchema
    doc: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table with known keys; ``rules`` are the JSON Schema keywords that relate several keys."""

    fields: Mapping[str, KeySchema]
    rules: Mapping[str, Any] = field(default_factory=dict)

    def read(self, value: Any, location: ValueLocation) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the valid keys, ``-`` replaced by ``_``; None after a report for a value that is not a table."""
        if not isinstance(value, dict):
            location.report(f"must be a table, not {format_type(value)}")
            return None
        for key in (key for key in value if key not in self.fields):
            location.at(key).report(
                "is an unknown key", suggest_word(key, list(self.fields)) if location.has_room else ""
            )
        read: dict[str, Any] = {}
        for key, known in self.fields.items():
            if key in value:
                item = known.value.read(value[key], location.at(key))
                if item is not None:
                    read[key.replace("-", "_")] = item
            elif known.required:
                location.at(key).report("is missing", known.doc)
        return read

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        schema: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                key: known.value.schema() | {"description": known.doc} for key, known in self.fields.items()
            },
        }
        required = [key for key, known in self.fields.items() if known.required]
        return schema | ({"required": required} if required else {}) | dict(self.rules)
