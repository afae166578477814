"""Reading TOML with its file named in every error, and writing it; the only importer of ``tomlkit``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from buildkit.errors import DefinitionError, Problem

Table = Mapping[str, Any]


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Read TOML 1.0; raises DefinitionError naming ``file`` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError.of([Problem(file=file, what=f"is not TOML: {error}")]) from None


def render_toml(table: Table, *, header: Sequence[str] = ()) -> str:
    """Text of ``table`` below the comment lines ``header``; equal values give equal bytes."""
    import tomlkit  # only locking writes

    lines = "".join(f"# {line}".rstrip() + "\n" for line in header)
    return f"{lines}\n{tomlkit.dumps(table)}" if lines else tomlkit.dumps(table)
