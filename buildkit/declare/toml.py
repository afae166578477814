"""Parse TOML with errors that name the file, and render it; the only importer of ``tomlkit``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from buildkit.errors import DefinitionError, Problem

Table = Mapping[str, Any]

_MOST = 4 << 20  # the locks of thousands of wheels are a quarter of that
_MOST_PARTS = 100
_PART = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DOTTED = re.compile(rf"(?:{_PART}[ \t]*+\.[ \t]*+){{2,{_MOST_PARTS}}}+")
_TOO_LONG = re.compile(rf"(?:{_PART}[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}")


def parse_toml(text: str, file: str, hint: str = "") -> dict[str, Any]:
    """Parse TOML 1.0. Raises DefinitionError with ``file`` and line, also for text that would exhaust the host.

    ``hint`` is that of the error: a file that a command writes names it.
    """
    try:
        if len(text) > _MOST:
            what = f"is longer than {_MOST} characters"
        elif any(
            _TOO_LONG.fullmatch(found[0]) for found in _DOTTED.finditer(text)
        ):  # parsing time grows with the square of the number of parts
            what = f"has a key of more than {_MOST_PARTS} parts"
        else:
            return tomllib.loads(text.removeprefix("\ufeff"))  # editors on Windows write one
    except RecursionError:
        what = "is nested too deeply"
    except ValueError as error:  # invalid TOML, or an integer of thousands of digits
        what = f"is not TOML: {error}"
    raise DefinitionError.of([Problem(file=file, what=what, hint=hint)])


def find_table(table: Table, *names: str) -> Table:
    """Return the table under these names, one in the other; an empty one if there is no table."""
    found: object = table
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def render_toml(table: Table, *, header: Sequence[str] = ()) -> str:
    """Render ``table`` below the comment lines ``header``; equal values give equal bytes."""
    import tomlkit  # only locking writes

    lines = "".join(f"# {line}".rstrip() + "\n" for line in header)
    return f"{lines}\n{tomlkit.dumps(table)}" if lines else tomlkit.dumps(table)


def edit_toml(text: str, names: Sequence[str], value: object) -> str:
    """Return ``text`` with another value under ``names`` (tables, then a key); everything else stays as it is written.

    None removes the key, and its table if that has nothing else, not even a comment. An array that only grows or
    shrinks keeps its comments. Raises ValueError if ``text`` cannot be edited.
    """
    import tomlkit  # only locking and settings write
    from tomlkit.exceptions import TOMLKitError
    from tomlkit.items import AbstractTable, InlineTable

    try:
        document = tomlkit.parse(text)
        tables: list[Any] = [document]
        for name in names[:-1]:
            if name not in tables[-1]:
                tables[-1][name] = tomlkit.inline_table() if isinstance(tables[-1], InlineTable) else tomlkit.table()
            tables.append(tables[-1][name])
        table, key = tables[-1], names[-1]
        if value is None:
            table.pop(key, None)
            if len(tables) > 1 and isinstance(table, AbstractTable) and not table.as_string().strip():
                del tables[-2][names[-2]]
        elif isinstance(value, list) and key in table:
            _edit_array(table[key], value)
        else:
            table[key] = value
        edited = tomlkit.dumps(document)
        wrong = find_table(tomllib.loads(edited), *names[:-1]).get(key) != value
    except (TOMLKitError, tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"it cannot be edited: {error}") from error
    if wrong:
        raise ValueError("it cannot be edited")
    return edited


def _edit_array(array: Any, wanted: list[Any]) -> None:  # noqa: ANN401 - tomlkit's
    for index in reversed([index for index, item in enumerate(array) if item not in wanted]):
        del array[index]
    for item in wanted:
        if item not in array:
            array.append(item)


def append_to_list(text: str, name: str, table: Table) -> str:
    """Return ``text`` with another table at the end of the list of tables ``[[name]]``; the rest stays as it is.

    Tables within it are inline, except those of ``gate``. Raises ValueError if ``text`` cannot be edited.
    """
    import tomlkit  # only locking and settings write
    from tomlkit.exceptions import TOMLKitError

    try:
        tomlkit.parse(text)
        lines = tomlkit.dumps({name: [_inline(table)]})
        edited = f"{text.rstrip()}\n\n{lines}" if text.strip() else lines
        wrong = tomllib.loads(edited).get(name, [{}])[-1] != table
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"it cannot be edited: {error}") from error
    if wrong:
        raise ValueError("it cannot be edited")
    return edited


def _inline(table: Table) -> dict[str, Any]:
    """Return a table in which tables of one level are inline, other than a gate."""
    import tomlkit

    shown: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and key != "gate":
            inline = tomlkit.inline_table()
            inline.update(value)
            shown[key] = inline
        else:
            shown[key] = value
    return shown
