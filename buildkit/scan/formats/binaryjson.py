"""Two binary relatives of JSON, walked value by value without building objects: MessagePack (Flax), UBJSON (XGBoost).

Specs: github.com/msgpack/msgpack/blob/master/spec.md; ubjson.org.
"""

from __future__ import annotations

from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import Cursor, MalformedContentError, PagedSource
from buildkit.scan.formats.polyglot import check_trailing
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource

_DEPTH = 200
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4,
          0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # fmt: skip
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
          0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}  # fmt: skip
_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_UBJ = {"Z": 0, "N": 0, "T": 0, "F": 0, "i": 1, "U": 1, "I": 2, "l": 4, "L": 8, "d": 4, "D": 8, "C": 1}
_INTEGERS = "iUIlL"


def recognise_msgpack(head: bytes, source: ScanSource) -> bool:
    """Recognise a map whose first key is a short printable text, which is what Flax writes."""
    del source
    if len(head) < 4:
        return False
    first = head[0]
    at = 1 if 0x81 <= first <= 0x8F else 3 if first == 0xDE else 5 if first == 0xDF else 0
    if not at:
        return False
    kind = head[at] if len(head) > at else 0
    if 0xA1 <= kind <= 0xBF:
        key = head[at + 1 : at + 1 + (kind & 31)]
    elif kind == 0xD9:
        key = head[at + 2 : at + 2 + head[at + 1]]
    else:
        return False
    return len(key) > 0 and key.isascii() and key.decode("ascii").isprintable()


def scan_msgpack(context: ScanContext, source: ScanSource) -> None:
    """Walk it to its end.

    Raises:
        MalformedContentError: it is not MessagePack.
        LimitError: there are more or deeper values than are followed.
    """
    cursor, left, stack = Cursor(PagedSource(source), big=True), context.budget.limits.fields, [1]
    while stack:
        if stack[-1] == 0:
            stack.pop()
            continue
        stack[-1] -= 1
        left -= 1
        if left < 0 or len(stack) > _DEPTH:
            raise LimitError(f"MessagePack of more than {context.budget.limits.fields} values, or deeper than {_DEPTH}")
        inner = _msgpack_value(cursor)
        if inner:
            stack.append(inner)
    check_trailing(context, source, cursor.at)


def _msgpack_value(cursor: Cursor) -> int:
    """Skip one value; return how many values it contains, which follow."""
    kind = cursor.number(1)
    if kind < 0x80 or kind >= 0xE0:
        return 0
    if kind < 0x90:
        return 2 * (kind & 15)
    if kind < 0xA0:
        return kind & 15
    if kind < 0xC0:
        cursor.skip(kind & 31)
        return 0
    if kind in _FIXED:
        cursor.skip(_FIXED[kind])
        return 0
    if kind in _SIZED:
        width, more = _SIZED[kind]
        cursor.skip(cursor.number(width) + more)
        return 0
    if kind not in _COUNTED:
        raise MalformedContentError(f"a value of unknown kind {kind:#x}", cursor.at - 1)
    width, each = _COUNTED[kind]
    return cursor.number(width) * each


def recognise_ubjson(head: bytes, source: ScanSource) -> bool:
    """Recognise an object whose first key has a length and printable text."""
    del source
    if head[:1] != b"{" or len(head) < 4 or chr(head[1]) not in _INTEGERS:
        return False
    width = _UBJ[chr(head[1])]
    length = int.from_bytes(head[2 : 2 + width], "big")
    key = head[2 + width : 2 + width + length]
    return 0 < length < 256 and len(key) == length and key.isascii() and key.decode("ascii").isprintable()


def scan_ubjson(context: ScanContext, source: ScanSource) -> None:
    """Walk it to its end.

    Raises:
        MalformedContentError: it is not UBJSON.
        LimitError: there are more or deeper values than are followed.
    """
    cursor, left = Cursor(PagedSource(source), big=True), context.budget.limits.fields
    stack: list[tuple[str, int]] = []  # end mark of the container ("" for counted ones), values left
    _ubj_value(cursor, stack, cursor.take(1).decode("latin-1"))
    while stack:
        left -= 1
        if left < 0 or len(stack) > _DEPTH:
            raise LimitError(f"UBJSON of more than {context.budget.limits.fields} values, or deeper than {_DEPTH}")
        close, count = stack[-1]
        if count == 0:
            stack.pop()
            continue
        stack[-1] = (close, count - 1)
        if close in ("}", "{"):
            key = cursor.take(1).decode("latin-1")
            if key == close == "}":
                stack.pop()
                continue
            cursor.skip(_ubj_integer(cursor, key))
        kind = cursor.take(1).decode("latin-1")
        if kind == close == "]":
            stack.pop()
        else:
            _ubj_value(cursor, stack, kind)
    check_trailing(context, source, cursor.at)


def _ubj_integer(cursor: Cursor, kind: str) -> int:
    if kind not in _INTEGERS:
        raise MalformedContentError(f"a length of kind {kind!r}", cursor.at)
    return cursor.number(_UBJ[kind])


def _ubj_value(cursor: Cursor, stack: list[tuple[str, int]], kind: str) -> None:
    if kind in _UBJ:
        cursor.skip(_UBJ[kind])
    elif kind in ("S", "H"):
        cursor.skip(_ubj_integer(cursor, cursor.take(1).decode("latin-1")))
    elif kind in ("[", "{"):
        _ubj_container(cursor, stack, kind)
    else:
        raise MalformedContentError(f"a value of unknown kind {kind!r}", cursor.at)


def _ubj_container(cursor: Cursor, stack: list[tuple[str, int]], kind: str) -> None:
    close = "]" if kind == "[" else "}"
    mark = cursor.window.peek(cursor.at, 1)
    typed = ""
    if mark == b"$":
        cursor.skip(1)
        typed = cursor.take(1).decode("latin-1")
        mark = cursor.window.peek(cursor.at, 1)
        if typed not in _UBJ or mark != b"#" or kind == "{":
            raise MalformedContentError("a typed container without a count, or of containers", cursor.at)
    if mark != b"#":
        stack.append((close, 2**62))
        return
    cursor.skip(1)
    count = _ubj_integer(cursor, cursor.take(1).decode("latin-1"))
    if typed:
        cursor.skip(count * _UBJ[typed])
    else:
        stack.append(("" if kind == "[" else "{", count))
