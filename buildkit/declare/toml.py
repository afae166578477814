"""Reading TOML with its file named in every error, and the one renderer of TOML for files that we write whole.

Writing needs no library: our files hold strings, whole numbers, booleans, lists of them, tables and arrays of
tables, and are rendered in the order given, so that equal values give equal bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from buildkit.errors import DefinitionError, Problem

Table = Mapping[str, Any]

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Read TOML 1.0; raises DefinitionError naming ``file`` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError.of([Problem(file=file, what=f"is not TOML: {error}")]) from None


def render_toml(table: Table, *, header: Sequence[str] = ()) -> str:
    """Text of ``table`` below the comment lines ``header``; raises TypeError for a value of another kind."""
    lines = [f"# {line}".rstrip() for line in header]
    body: list[str] = []
    _render_table(table, (), body)
    text = "\n".join(body).strip("\n")
    return "".join(f"{line}\n" for line in lines) + ("\n" if lines else "") + text + "\n"


def _render_table(table: Table, path: tuple[str, ...], lines: list[str]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping) or _is_array_of_tables(value):
            later.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in later:
        below = (*path, key)
        name = ".".join(_key(part) for part in below)
        many = isinstance(value, list | tuple)
        for item in value if many else (value,):
            lines.extend(("", f"[[{name}]]" if many else f"[{name}]"))
            _render_table(item, below, lines)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else _string(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"cannot write {type(value).__name__} as TOML")


def _string(text: str) -> str:
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return f"\\u{ord(char):04x}" if ord(char) < 0x20 or ord(char) == 0x7F else char
