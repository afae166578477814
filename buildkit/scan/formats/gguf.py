"""GGUF, versions 1 to 3: keys and values, tensors, alignment, and chat templates among the values.

Spec: github.com/ggml-org/ggml/blob/master/docs/gguf.md; block sizes from ggml/src/ggml-common.h.
"""

from __future__ import annotations

import math
from dataclasses import field

from buildkit.findings import Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import jsontext, structures
from buildkit.scan.formats.cursor import Cursor, MalformedContentError, PagedSource, quote
from buildkit.scan.formats.polyglot import check_trailing, check_zip
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource

BENT = Rule(
    id="gguf-bent",
    title="A GGUF file whose parts do not fit together",
    severity=Severity.HIGH,
    why="Inconsistent sizes, offsets and alignments have made GGUF readers read and write out of bounds.",
    advice="Do not load the file; get it from its author again.",
    references=("CVE-2024-23496", "CVE-2024-23605", "CVE-2024-21802", "CVE-2025-53630"),
)
MAGIC = b"GGUF"
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_CHAT_TEMPLATE = "chat_template"
_TYPES = {  # tensor type: elements of a block, bytes of a block
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
_MOST_KEYS = 100_000
_MOST_TENSORS = 1_000_000
_MOST_VALUES = 20_000_000
_TEXT = 4 * 2**20
_DEPTH = 8


@dataclass(slots=True)
class _GgufReader:
    context: ScanContext
    cursor: Cursor
    version: int
    values: int = 0
    keys: set[str] = field(default_factory=set)
    alignment: int = 32

    def size(self) -> int:
        """Return the next length or count: 32 bits in version 1, else 64."""
        return self.cursor.number(4 if self.version == 1 else 8)


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise the magic."""
    del source
    return head.startswith(MAGIC)


def scan(context: ScanContext, source: ScanSource) -> None:
    """Walk header, values and tensors.

    Raises:
        MalformedContentError: it ends early, or has an unknown type or version.
        LimitError: there is more of something than is read.
    """
    window = PagedSource(source)
    big = window.read(4, 4)[:3] == b"\0\0\0"
    file = _GgufReader(context, Cursor(window, 8, big=big), window.number(4, 4, big=big))
    if file.version not in (1, 2, 3):
        raise MalformedContentError(f"version {file.version} is unknown", 4)
    tensors, pairs = file.size(), file.size()
    _check_count(file, tensors, _MOST_TENSORS, "tensors")
    _check_count(file, pairs, _MOST_KEYS, "values")
    for _ in range(pairs):
        _pair(file)
    spans = [_tensor(file) for _ in range(tensors)]
    start = -(-file.cursor.at // file.alignment) * file.alignment
    known = [span for span in spans if span]
    _check_spans(file, known, start)
    if len(known) == len(spans):
        end = start + max(last for _, last, _ in known) if known else file.cursor.at
        check_trailing(context, source, end, padding=file.alignment)
    check_zip(context, source)


def _check_count(file: _GgufReader, count: int, most: int, what: str) -> None:
    left = file.cursor.window.size - file.cursor.at
    if count * 8 > left:
        file.context.find(BENT, f"{count} {what} are declared, but only {left} bytes follow", offset=file.cursor.at)
        raise MalformedContentError(f"too many {what}", file.cursor.at)
    if count > most:
        raise LimitError(f"more than {most} {what}")


def _text(file: _GgufReader, most: int) -> bytes:
    length, at = file.size(), file.cursor.at
    if at + length > file.cursor.window.size:
        file.context.find(BENT, f"a text of {length} bytes is declared", offset=at)
        raise MalformedContentError("a text ends beyond the file", at)
    content = file.cursor.window.read(at, min(length, most))
    file.cursor.skip(length)
    return content


def _pair(file: _GgufReader) -> None:
    at = file.cursor.at
    key = _text(file, 65536).decode(errors="backslashreplace")
    if key in file.keys:
        file.context.find(BENT, f"the key {quote(key)} occurs more than once", offset=at)
    file.keys.add(key)
    kind = file.cursor.number(4)
    if kind == _STRING:
        _check_text(file, key)
    elif key == "general.alignment":
        value = file.cursor.number(_WIDTHS.get(kind, 4))
        if kind != 4 or value < 1 or value & (value - 1) or value > 2**20:
            file.context.find(BENT, f"the alignment is {value}", offset=at)
        file.alignment = value if 0 < value <= 2**20 else 32
    else:
        _value(file, kind, 0, key)


def _check_text(file: _GgufReader, key: str) -> None:
    at = file.cursor.at
    content = _text(file, _TEXT + 1)
    if len(content) > _TEXT:
        file.context.gap(f"the text of {quote(key)} is longer than {_TEXT} bytes", offset=at)
    text = content.decode(errors="backslashreplace")
    structures.check_text(file.context, text, declared=_CHAT_TEMPLATE in key)
    jsontext.check_text(file.context, content, base=at)


def _value(file: _GgufReader, kind: int, depth: int, key: str) -> None:
    if kind in _WIDTHS:
        _skip_numbers(file, kind, 1, key)
        return
    if kind == _STRING:
        file.cursor.skip(file.size())
        return
    if kind != _ARRAY or depth >= _DEPTH:
        raise MalformedContentError(f"a value of unknown type {kind}, or arrays deeper than {_DEPTH}", file.cursor.at)
    inner, count = file.cursor.number(4), file.size()
    file.values += 1 if inner in _WIDTHS else count
    if file.values > _MOST_VALUES:
        raise LimitError(f"more than {_MOST_VALUES} values are in its arrays")
    if inner in _WIDTHS:
        _skip_numbers(file, inner, count, key)
    elif inner == _STRING and "template" in key:
        for _ in range(count):
            _check_text(file, key)
    elif count * 4 > file.cursor.window.size:
        raise MalformedContentError(f"an array of {count} values", file.cursor.at)
    else:
        for _ in range(count):
            _value(file, inner, depth + 1, key)


def _skip_numbers(file: _GgufReader, kind: int, count: int, key: str) -> None:
    if _CHAT_TEMPLATE in key:
        file.context.gap(f"the value of {quote(key)} is not text", offset=file.cursor.at)
    file.cursor.skip(count * _WIDTHS[kind])


def _tensor(file: _GgufReader) -> tuple[int, int, str] | None:
    at = file.cursor.at
    name = _text(file, 65536).decode(errors="backslashreplace")
    rank = file.cursor.number(4)
    if len(name) > 64 or rank > 4:
        file.context.find(
            BENT,
            f"tensor {quote(name)} of {rank} dimensions: a name has at most 64 bytes, a tensor 4 dimensions",
            offset=at,
        )
        if rank > 64:
            raise MalformedContentError(f"a tensor of {rank} dimensions", at)
    dims = [file.size() for _ in range(rank)]
    kind, offset = file.cursor.number(4), file.cursor.number(8)
    if offset % file.alignment:
        file.context.find(
            BENT, f"tensor {quote(name)} is at {offset}, which is not aligned to {file.alignment}", offset=at
        )
    count = math.prod(dims)
    if count >= 2**63 or any(dim >= 2**63 for dim in dims):
        file.context.find(BENT, f"tensor {quote(name)} of shape {dims} has more than 2^63 elements", offset=at)
        return None
    if kind not in _TYPES:
        file.context.gap(f"tensor {quote(name)} has the unknown type {kind}", offset=at)
        return None
    block, width = _TYPES[kind]
    if dims and dims[0] % block:
        file.context.find(
            BENT,
            f"tensor {quote(name)} has rows of {dims[0]}, which is not a multiple of a block of {block}",
            offset=at,
        )
    return offset, offset + -(-count // block) * width, name


def _check_spans(file: _GgufReader, spans: list[tuple[int, int, str]], start: int) -> None:
    end, size = 0, file.cursor.window.size
    for first, last, name in sorted(spans):
        if start + last > size:
            file.context.find(
                BENT, f"tensor {quote(name)} ends at {start + last} of {size} bytes", offset=start + first
            )
        if first < end:
            file.context.find(BENT, f"tensor {quote(name)} begins inside another one", offset=start + first)
        elif first > -(-end // file.alignment) * file.alignment:
            file.context.find(
                BENT,
                f"{first - end} bytes before tensor {quote(name)} belong to no tensor",
                offset=start + end,
                severity=Severity.LOW,
            )
        end = max(end, last)
