"""Slightly mutated valid inputs, drawn by hypothesis: bytes, lines and words of text, and values in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

MOST = 1 << 16  # bytes of an input: what grows faster than its input shows below that, too
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
_WORDS = (
    "", "0", "-1", "1e999", "nan", "inf", "true", "null", '""', "[]", "{}", "[[", "]]", "{", "}", "'", '"', '"""', "=",
    "..", "/", "../..", "\\", "\\u0000", "\\u001b[2J", "\\u202e", "\\ud800", "\\n", "\n", "\r", "\t", "\0", "\x1b[31m",
    "\u2028", "\u202e", "\x85", "é", "\U0001f600", "::error::", "@", ":", ";", "#", "*", "**", "[", "!", "--", "<", "&",
    "9" * 5000, "0x" + "f" * 5000, "a" * 5000, "[" * 2000, "(" * 2000, "a." * 2000, "{a=" * 500, " " * 5000,
    "1_" * 3000, "1979-05-27T07:32:00Z", "9999-99-99",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 63, 1 << 4000, 1.5, float("inf"), float("nan"), "", "x", "/", "../x", "a\nb", "\x1b[31m",
    "\ud800", "\u202e", "9" * 5000, "sha256:" + "0" * 64, [], {}, [[]], {"": None}, [None] * 300, ["x", 1, {}],
)  # fmt: skip
_TOKEN = re.compile(r"\w+|[ \t]+|[^\w \t]")


def mutated(kind: str, seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return inputs made from ``seeds``; ``kind`` is ``bytes``, ``text`` or ``json``."""
    return {"bytes": _mutate_bytes, "text": _mutate_text, "json": _mutate_json}[kind](tuple(seeds))


@st.composite
def _mutate_bytes(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:  # noqa: C901 - a table of ways
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(("flip", "set", "number", "cut", "put", "same", "splice", "end", "grow"))):
            case "flip" if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if at < len(content):
                content[at] = draw(st.sampled_from((0, 1, 0x20, 0x7F, 0x80, 0xFF)))
            case "number":
                size = draw(st.sampled_from((1, 2, 4, 8)))
                number = draw(st.sampled_from(_NUMBERS)) & ((1 << 8 * size) - 1)
                content[at : at + size] = number.to_bytes(size, draw(st.sampled_from(("little", "big"))))
            case "cut":
                del content[at : at + draw(st.integers(1, 40))]
            case "put":
                content[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "same":
                content[at:at] = content[at : at + draw(st.integers(1, 600))]
            case "splice":
                other = draw(st.sampled_from(seeds))
                start = draw(st.integers(0, len(other)))
                content[at:at] = other[start : start + draw(st.integers(1, 600))]
            case "end":
                del content[at:]
            case "grow":
                content[at:at] = content[at : at + 4] * draw(st.sampled_from((10, 100, 1000)))
    return bytes(content[:MOST])


@st.composite
def _mutate_text(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    lines = draw(st.sampled_from(seeds)).decode().splitlines(keepends=True)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        match draw(st.sampled_from(("word", "word", "value", "value", "line", "drop", "splice", "swap"))):
            case "word" if lines:
                tokens = _TOKEN.findall(lines[at]) or [""]
                place = draw(st.integers(0, len(tokens) - 1))
                word = draw(st.sampled_from(_WORDS))
                tokens[place] = word if draw(st.booleans()) else tokens[place] + word
                lines[at] = "".join(tokens) + "\n"
            case "value" if lines and "=" in lines[at]:
                lines[at] = f"{lines[at].partition('=')[0]}= {draw(st.sampled_from(_WORDS))}\n"
            case "line":
                lines[at:at] = lines[at : at + 1] * draw(st.sampled_from((1, 2, 300)))
            case "drop":
                del lines[at : at + draw(st.integers(1, 3))]
            case "splice":
                lines.insert(at, draw(st.sampled_from(draw(st.sampled_from(seeds)).decode().splitlines(keepends=True))))
            case "swap" if lines:
                lines[at], lines[-1] = lines[-1], lines[at]
    content = "".join(lines).encode("utf-8", "surrogatepass")
    return content[:MOST] if draw(st.integers(0, 9)) else draw(_mutate_bytes((content[:MOST] or b"x",)))


@st.composite
def _mutate_json(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    value = json.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(("value", "value", "value", "drop", "key", "wrap", "other"))):
            case "value":
                holder[key] = deepcopy(draw(st.sampled_from(_VALUES)))
            case "drop":
                del holder[key]
            case "key" if isinstance(holder, dict):
                holder[draw(st.sampled_from(("", "x", "\x1b", "\ud800", "../x")))] = holder[key]
            case "wrap":
                holder[key] = [holder[key]] * draw(st.sampled_from((1, 2, 200)))
            case "other":
                other = draw(st.sampled_from(places))
                holder[key] = deepcopy(other[0][other[1]] if _has(other) else None)
    content = json.dumps(value).encode()
    chosen = draw(st.integers(0, 19))
    if chosen == 0:
        depth = draw(st.sampled_from((900, 20_000)))
        return b'{"a":' * depth + content[:1000] + b"}" * depth
    return content[:MOST] if chosen > 3 else draw(_mutate_bytes((content[:MOST],)))


def _has(place: tuple[Any, Any]) -> bool:
    holder, key = place
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Yield every nested value as its container and key."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < 2000:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found
