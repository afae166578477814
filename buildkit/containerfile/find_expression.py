"""Patterns of paths (``layers.globs``) as an expression of find(1), with its extended regular expressions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_TOKENS = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[[^]/]+\]|[^*?[]+|\[")
_WORDS = {"**/": "(.*/)?", "/**": "/.+", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def render_find(patterns: Sequence[str]) -> str:
    """What find(1), run in the folder as ``find .``, must match for a path to be left out.

    As with the patterns themselves, the last that matches decides, and ``!`` keeps. Needs ``-regextype
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
