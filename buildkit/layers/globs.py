"""Patterns of paths to leave out: ``*`` and ``?`` stay within a folder, ``**`` crosses folders, ``!`` takes back."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache


def compile_excludes(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a path (relative, no leading slash) is left out: the last pattern that matches decides.

    Patterns are relative to the image's root; a leading slash is tolerated. One that matches a folder matches all
    below it; ``usr/share/man/**`` leaves the folder itself. ``!usr/share/doc/*/copyright`` keeps what an earlier
    one left out.
    """
    rules = [(not pattern.startswith("!"), _regex(pattern.removeprefix("!").strip("/"))) for pattern in patterns]

    def excluded(path: str) -> bool:
        return next((out for out, regex in reversed(rules) if regex.fullmatch(path)), False)

    return excluded


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    for token in re.findall(r"(?:\*\*/)+|/\*\*$|\*\*|\*|\?|\[[^]/]+\]|[^*?[]+|\[", pattern):
        match token:
            case _ if token.startswith("**/"):  # several of them mean what one does, and would take ages
                parts.append(r"(?:.*/)?")
            case "/**":
                parts.append(r"/.+")
            case "**":
                parts.append(r".*")
            case "*":
                parts.append(r"[^/]*")
            case "?":
                parts.append(r"[^/]")
            case _ if len(token) > 1 and token[0] == "[":
                inside = token[1:-1].replace("\\", r"\\").replace("[", r"\[")
                parts.append(f"[{'^' + inside[1:] if inside[0] == '!' else inside}]")
            case _:
                parts.append(re.escape(token))
    return re.compile("".join(parts) + r"(?:/.*)?", re.DOTALL)
