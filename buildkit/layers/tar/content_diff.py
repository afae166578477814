"""Explain how two contents of one file differ: by structure for bytecode, RECORD and text, else by the first byte."""

from __future__ import annotations

import io
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator

READ = 8 << 20  # contents up to this many bytes are compared by structure
_SHOWN = 60
_BEFORE = 20
_HEADER = 16  # PEP 552: magic number, flags, and either time and size of the source or its hash
_FLAGS = {0: "time and size", 1: "unchecked hash", 3: "checked hash"}
_REFERENCE = 0x80  # marshal's mark of an object that may be referred to again

ContentDifference = tuple[str, str, str]
"""The field, and its value on either side."""


def kind_of(path: str) -> str:
    """Return how a file is compared: as ``pyc``, ``RECORD`` or ``content``."""
    if path.endswith(".pyc"):
        return "pyc"
    folder, name = posixpath.split(path)
    return "RECORD" if name == "RECORD" and folder.endswith(".dist-info") else "content"


def explain_content(path: str, first: bytes, second: bytes) -> ContentDifference:
    """Explain how two different contents of ``path`` differ."""
    kind = kind_of(path)
    if kind == "pyc" and min(len(first), len(second)) >= _HEADER:
        return _explain_pyc(first, second)
    one, two = _lines(first), _lines(second)
    if one is None or two is None:
        return explain_bytes(iter((first,)), iter((second,)))
    if kind == "RECORD":
        return _explain_record(one, two)
    number = _first_difference(one, two)
    return f"line {number + 1}", *_show(_at(one, number), _at(two, number))


def explain_bytes(first: Iterator[bytes], second: Iterator[bytes]) -> ContentDifference:
    """Return the first byte in which two streams differ; holds one chunk of each in memory."""
    offset = 0
    one = two = b""
    while True:
        one, two = one or next(first, b""), two or next(second, b"")
        size = min(len(one), len(two))
        if one[:size] != two[:size]:
            at = next(n for n in range(size) if one[n] != two[n])
            return f"byte {offset + at}", f"0x{one[at]:02x}", f"0x{two[at]:02x}"
        if not size:
            return f"byte {offset}", "the end" if not one else "more", "the end" if not two else "more"
        offset += size
        one, two = one[size:], two[size:]


def shorten(first: str, second: str) -> tuple[str, str]:
    """Cut two different texts to the part where they first differ."""
    same = len(posixpath.commonprefix((first, second)))
    start = max(0, same - _BEFORE) if max(len(first), len(second)) > _SHOWN else 0

    def cut(text: str) -> str:
        return ("…" if start else "") + text[start : start + _SHOWN] + ("…" if len(text) > start + _SHOWN else "")

    return cut(first), cut(second)


def _explain_pyc(first: bytes, second: bytes) -> ContentDifference:
    if first[:4] != second[:4]:
        return "pyc header", *_both(first, second, lambda data: f"magic number {_word(data, 0) & 0xFFFF}")
    if first[4:8] != second[4:8]:
        return "pyc header", *_both(first, second, lambda data: _FLAGS.get(_word(data, 4), f"flags {_word(data, 4)}"))
    if first[8:_HEADER] != second[8:_HEADER] and _word(first, 4):
        return "pyc header", *_both(first, second, lambda data: f"source hash {data[8:_HEADER].hex()}")
    if first[8:_HEADER] != second[8:_HEADER]:
        return "pyc header", *_both(first, second, lambda data: f"source of time {_word(data, 8)}, {_word(data, 12)} B")
    where, one, two = explain_bytes(iter((first,)), iter((second,)))
    marks = len(first) == len(second) and all(a ^ b in (0, _REFERENCE) for a, b in zip(first, second, strict=True))
    return f"pyc code, {where}{', in reference flags only' if marks else ''}", one, two


def _both(first: bytes, second: bytes, describe: Callable[[bytes], str]) -> tuple[str, str]:
    return describe(first), describe(second)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _explain_record(first: list[str], second: list[str]) -> ContentDifference:
    removed, added = Counter(first) - Counter(second), Counter(second) - Counter(first)
    if not removed and not added:
        number = _first_difference(first, second)
        return f"RECORD order, from line {number + 1}", *_show(first[number], second[number])
    path = _recorded_path(next(iter(removed or added)))
    one, two = (next((line for line in lines if _recorded_path(line) == path), "") for lines in (removed, added))
    return "RECORD line", *_show(one, two)


def _recorded_path(line: str) -> str:
    return line.rsplit(",", 2)[0]


def _lines(data: bytes) -> list[str] | None:
    if b"\0" in data:
        return None
    try:
        return list(io.StringIO(data.decode("utf-8"), newline="\n"))
    except UnicodeDecodeError:
        return None


def _first_difference(first: list[str], second: list[str]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (one, two) in pairs if one != two), min(len(first), len(second)))


def _at(lines: list[str], number: int) -> str:
    return lines[number] if number < len(lines) else ""


def _show(first: str, second: str) -> tuple[str, str]:
    one, two = shorten(first, second)
    return (repr(one) if first else "no such line"), (repr(two) if second else "no such line")
