"""Shapes of TOML values: one table of fields both validates a file and is its JSON Schema.

``read`` never raises: it appends a Problem for everything wrong and returns what it could read, so that all
problems of a file are reported at once. Schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from buildkit.errors import Problem

_LONGEST_WORD = 64
_MOST_PROBLEMS = 500
_MOST_SHOWN = 300  # letters of what somebody else wrote
_MOST_BITS = 128
_NAMES = {dict: "a table", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}


def format_type(value: object) -> str:
    """The value's type in TOML's words, for a message."""
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def suggest_word(word: str, words: list[str]) -> str:
    """A hint naming the nearest right word, or the empty string."""
    from difflib import get_close_matches

    close = get_close_matches(word, words, n=1, cutoff=0.6) if len(word) <= _LONGEST_WORD else ()
    return f"did you mean `{close[0]}`?" if close else ""


def format_value(value: object) -> str:
    """A value for a message: of a long one, or a number of many digits, the beginning or the size."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    text = str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


@dataclass(slots=True)
class ValueLocation:
    """Where in which file something stands, and the list that problems go to."""

    file: str
    problems: list[Problem]
    key: str = ""

    def at(self, key: str | int) -> ValueLocation:
        """The place one step deeper."""
        if isinstance(key, int):
            return ValueLocation(self.file, self.problems, f"{self.key}[{key}]")
        return ValueLocation(self.file, self.problems, f"{self.key}.{key}" if self.key else key)

    def report(self, what: str, hint: str = "") -> None:
        """Note a problem here; of thousands the first will do."""
        if self.has_room:
            self.problems.append(Problem(file=self.file, key=format_value(self.key), what=what, hint=hint))

    @property
    def has_room(self) -> bool:
        """Whether another problem would be kept."""
        return len(self.problems) < _MOST_PROBLEMS

    @property
    def faulty(self) -> bool:
        """Whether something here or below was reported."""
        below = (f"{self.key}.", f"{self.key}[")
        return any(problem.key == self.key or problem.key.startswith(below) for problem in self.problems)


class ValueSchema(Protocol):
    """What a value must look like."""

    def read(self, value: Any, place: ValueLocation) -> Any: ...  # noqa: ANN401, D102 - a TOML value is anything

    def schema(self) -> dict[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class TextSchema:
    """A string; ``pattern`` must match all of it (``expected`` describes it), or it is one of ``choices``."""

    pattern: str = ""
    expected: str = ""
    choices: tuple[str, ...] = ()

    def read(self, value: Any, place: ValueLocation) -> str | None:  # noqa: ANN401
        """The string, or None after a report."""
        if not isinstance(value, str):
            place.report(f"must be a string, not {format_type(value)}")
        elif self.choices and value not in self.choices:
            place.report(
                f"`{format_value(value)}` is none of {', '.join(self.choices)}", suggest_word(value, list(self.choices))
            )
        elif self.pattern and not re.fullmatch(self.pattern, value):
            place.report(f"`{format_value(value)}` is not {self.expected}")
        elif "\0" in value:
            place.report("must not hold a NUL character")
        else:
            return value
        return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        made: dict[str, Any] = {"type": "string"}
        if self.choices:
            made["enum"] = list(self.choices)
        elif not self.pattern:
            made["pattern"] = r"^[^\x00]*$"
        if self.pattern:
            made["pattern"] = f"^(?:{self.pattern})$"
        return made


@dataclass(frozen=True, slots=True)
class BooleanSchema:
    """true or false."""

    def read(self, value: Any, place: ValueLocation) -> bool | None:  # noqa: ANN401
        """The flag, or None after a report."""
        if isinstance(value, bool):
            return value
        place.report(f"must be true or false, not {format_type(value)}")
        return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class IntegerSchema:
    """A whole number between ``least`` and ``most``."""

    least: int
    most: int

    def read(self, value: Any, place: ValueLocation) -> int | None:  # noqa: ANN401
        """The number, or None after a report."""
        if not isinstance(value, int) or isinstance(value, bool):
            place.report(f"must be a whole number, not {format_type(value)}")
        elif not self.least <= value <= self.most:
            place.report(f"{format_value(value)} is not between {self.least} and {self.most}")
        else:
            return value
        return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class ListSchema:
    """A list whose items have one shape; read as a tuple."""

    item: ValueSchema
    least: int = 0

    def read(self, value: Any, place: ValueLocation) -> tuple[Any, ...]:  # noqa: ANN401
        """The items that could be read."""
        if not isinstance(value, list):
            place.report(f"must be a list, not {format_type(value)}")
            return ()
        if len(value) < self.least:
            place.report(f"needs at least {self.least} item" + ("s" if self.least > 1 else ""))
        items = (self.item.read(item, place.at(number)) for number, item in enumerate(value))
        return tuple(item for item in items if item is not None)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        made: dict[str, Any] = {"type": "array", "items": self.item.schema()}
        return made | ({"minItems": self.least} if self.least else {})


@dataclass(frozen=True, slots=True)
class MapSchema:
    """A table with free keys whose values have one shape; read as sorted pairs."""

    value: ValueSchema
    key_pattern: str = r"[A-Za-z_][A-Za-z0-9_]*"

    def read(self, value: Any, place: ValueLocation) -> tuple[tuple[str, Any], ...]:  # noqa: ANN401
        """The pairs that could be read, sorted by key."""
        if not isinstance(value, dict):
            place.report(f"must be a table, not {format_type(value)}")
            return ()
        for key in value:
            if not re.fullmatch(self.key_pattern, key):
                place.at(key).report("is not a usable name")
        pairs = ((key, self.value.read(item, place.at(key))) for key, item in sorted(value.items()))
        return tuple((key, item) for key, item in pairs if item is not None)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{self.key_pattern})$"},
            "additionalProperties": self.value.schema(),
        }


@dataclass(frozen=True, slots=True)
class KeySchema:
    """One key of a table: its shape, what it means, and whether it must be there."""

    shape: ValueSchema
    doc: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table with known keys; ``rules`` are what its JSON Schema says of several keys together."""

    fields: Mapping[str, KeySchema]
    rules: Mapping[str, Any] = field(default_factory=dict)

    def read(self, value: Any, place: ValueLocation) -> dict[str, Any] | None:  # noqa: ANN401
        """Known keys, with ``-`` as ``_``; absent ones are absent."""
        if not isinstance(value, dict):
            place.report(f"must be a table, not {format_type(value)}")
            return None
        for key in (key for key in value if key not in self.fields):
            place.at(key).report("is an unknown key", suggest_word(key, list(self.fields)) if place.has_room else "")
        read: dict[str, Any] = {}
        for key, known in self.fields.items():
            if key in value:
                item = known.shape.read(value[key], place.at(key))
                if item is not None:
                    read[key.replace("-", "_")] = item
            elif known.required:
                place.at(key).report("is missing", known.doc)
        return read

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        made: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                key: known.shape.schema() | {"description": known.doc} for key, known in self.fields.items()
            },
        }
        required = [key for key, known in self.fields.items() if known.required]
        return made | ({"required": required} if required else {}) | dict(self.rules)
