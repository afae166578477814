"""Render path patterns (``layers.globs``) as an expression of find(1) with extended regular expressions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_TOKENS = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[[^]/]+\]|[^*?[]+|\[")
_WORDS = {"**/": "(.*/)?", "/**": "/.+", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def render_find(patterns: Sequence[str]) -> str:
    """Return the expression by which ``find .``, run in the folder, matches the paths to leave out.

    As with the patterns themselves, the last match decides, and ``!`` keeps a path. Requires ``-regextype
    posix-extended`` before it.
    """
    expression = ""
    for pattern in patterns:
        test = f"-regex {shlex.quote(_regex(pattern.removeprefix('!')))}"
        if not pattern.startswith("!"):
            expression = f"{expression} -o {test}" if expression else test
        elif expression:
            expression = f"! {test} \\( {expression} \\)"
    return expression


def _regex(pattern: str) -> str:
    return r"\./" + "".join(map(_token, _TOKENS.findall(pattern.strip("/")))) + "(/.*)?"


def _token(token: str) -> str:
    if token in _WORDS:
        return _WORDS[token]
    if len(token) > 1 and token[0] == "[":
        inside = token[1:-1]
        return f"[{'^' + inside[1:] if inside[0] == '!' else inside}]"
    return re.sub(r"([.+(){}|^$\\\[\]])", r"\\\1", token)
