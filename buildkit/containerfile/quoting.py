"""Quoting of Containerfile values: words of ENV and LABEL, argument lists, paths.

The rules are those that BuildKit and buildah share: within double quotes a backslash stands for itself unless a
quote, a dollar or a backslash follows it, and no escape makes a line break.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from buildkit.errors import DefinitionError, Problem

_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_EXPANDED = re.compile(r"[$\\\"'*?\[\]]")


def check_line(value: str, file: str, key: str) -> str:
    """Return ``value``. Raises DefinitionError for line breaks and control characters, which cannot be expressed."""
    if _CONTROL.search(value):
        what = "contains a line break or a control character, which a Containerfile cannot express"
        raise DefinitionError.of([Problem(file=file, key=key, what=what, hint="set it where the container is started")])
    return value


def quote_word(value: str) -> str:
    """Return the word of ENV, LABEL, USER or WORKDIR that means exactly ``value``."""
    if _BARE.fullmatch(value):
        return value
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def quote_argv(argv: Sequence[str]) -> str:
    """Return an argument list (exec form), which nothing expands, with one line for each line of an argument."""
    return "[" + ", ".join(map(_quote_argument, argv)) + "]"


def _quote_argument(argument: str) -> str:
    first, *rest = (json.dumps(line, ensure_ascii=False)[1:-1] for line in argument.splitlines(keepends=True) or [""])
    return '"' + "\\\n".join((first, *map(_hide_comment, rest))) + '"'


def _hide_comment(line: str) -> str:
    """Escape a leading ``#``, because the builder would take the line for a comment."""
    return re.sub(r"^(\s*)#", r"\1\\u0023", line)


def check_path(path: str, file: str, key: str) -> str:
    """Return ``path``. Raises DefinitionError if the builders would expand it in COPY or VOLUME."""
    check_line(path, file, key)
    if match := _EXPANDED.search(path):
        what = f"`{path}` contains `{match[0]}`, which a Containerfile expands"
        raise DefinitionError.of([Problem(file=file, key=key, what=what, hint="rename it")])
    return path


def render_copy(sources: Sequence[str], target: str, *flags: str) -> str:
    """Return a COPY of ``sources`` to ``target``; paths with spaces make it an argument list."""
    start = " ".join(("COPY", *flags))
    paths = (*sources, target)
    if all(_BARE.fullmatch(path) for path in paths):
        return f"{start} {' '.join(paths)}"
    return f"{start} {json.dumps(list(paths), ensure_ascii=False)}"
