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


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Parse TOML 1.0. Raises DefinitionError with ``file`` and line, also for text that would exhaust the host."""
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
    raise DefinitionError.of([Problem(file=file, what=what)])


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
