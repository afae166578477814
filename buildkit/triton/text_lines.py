"""On which line each field of a text in the format of protocol buffers stands.

The library reads such a text and tells the place of what it cannot read, but not that of a value that it could.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"|(?P<word>[A-Za-z0-9_.+-]+)|(?P<mark>.)",
    re.DOTALL,
)
_OPENS, _CLOSES = "{<", "}>"
Tokens = list[tuple[str, int]]
Lines = dict[str, int]


def find_lines(text: str) -> Mapping[str, int]:
    """Return the line, from 1, of each field of a text that the library read.

    Fields are named by their path: ``input[1].dims``, with numbers from 0 for every field that stands there twice,
    and for items of a list (``instance_group[0].gpus[1]``); the first also without its number.
    """
    lines: Lines = {}
    _read_fields(list(_tokens(text)), 0, lines)
    return lines


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for found in _TOKEN.finditer(text):
        if found.lastgroup != "space":
            yield found[0], line
        line += found[0].count("\n")


def _read_fields(tokens: Tokens, at: int, lines: Lines) -> int:
    """Read fields up to the end of their message; return where that is."""
    seen: Counter[str] = Counter()
    while at < len(tokens) and tokens[at][0] not in _CLOSES:
        word, line = tokens[at]
        at += 1
        if word in ",;":
            continue
        if at < len(tokens) and tokens[at][0] == ":":
            at += 1
        if at < len(tokens) and tokens[at][0] == "[":
            at += 1
            while at < len(tokens) and tokens[at][0] != "]":
                at = _read_value(tokens, at, (word, tokens[at][1]), (seen, lines))
                at += at < len(tokens) and tokens[at][0] == ","
            at += 1
            lines.setdefault(word, line)
        else:
            at = _read_value(tokens, at, (word, line), (seen, lines))
    return at


def _read_value(tokens: Tokens, at: int, field: tuple[str, int], known: tuple[Counter[str], Lines]) -> int:
    """Read a value of ``field`` (name, line); return what is behind it."""
    (word, line), (seen, lines) = field, known
    number = seen[word]
    seen[word] += 1
    lines.setdefault(word, line)
    lines[f"{word}[{number}]"] = line
    if at >= len(tokens):
        return at
    if tokens[at][0] in _OPENS:
        inner: Lines = {}
        end = _read_fields(tokens, at + 1, inner) + 1
        for path, where in inner.items():
            lines[f"{word}[{number}].{path}"] = where
            if number == 0:
                lines.setdefault(f"{word}.{path}", where)
        return end
    at += 1
    while at < len(tokens) and tokens[at][0][0] in "\"'":  # strings side by side are one
        at += 1
    return at
