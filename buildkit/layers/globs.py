"""Patterns of paths to exclude: ``*`` and ``?`` stay within a folder, ``**`` crosses folders, ``!`` includes again."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache


def compile_excludes(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a test whether a path (relative, no leading slash) is excluded; the last matching pattern decides.

    Patterns are relative to the image's root; a leading slash is accepted. A pattern that matches a folder matches
    everything below it; ``usr/share/man/**`` keeps the folder itself. ``!usr/share/doc/*/copyright`` keeps files that
    an earlier pattern excludes.
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
            case _ if token.startswith("**/"):  # several in a row mean the same as one, but would match very slowly
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
