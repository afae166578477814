"""NumPy's ``.npy``: an array of objects is a pickle that follows the header.

Follows NumPy's ``lib/format.py``: magic, version, length of the header, a Python literal of a dict, the items.
"""

from __future__ import annotations

import ast

from buildkit.scan.context import ScanContext
from buildkit.scan.pickle.recognise import WINDOW, is_pickle
from buildkit.scan.pickle.streams import scan_rest
from buildkit.scan.source import RangeSource, ScanSource

MAGIC = b"\x93NUMPY"
LONGEST = 64 * 2**10  # bytes of a header; NumPy refuses more than 10,000


def recognise(head: bytes, source: ScanSource) -> bool:
    """Return whether content is a NumPy array."""
    return head.startswith(MAGIC) and source.size >= 10


def scan(context: ScanContext, source: ScanSource) -> None:
    """Scan an array of objects; numbers need no scan."""
    major = source.read(6, 1)[0]
    width = 2 if major < 2 else 4
    size = int.from_bytes(source.read(8, width), "little")
    start = 8 + width + size
    header = parse_header(source.read(8 + width, min(size, LONGEST)).decode("latin-1")) if size <= LONGEST else None
    if header is None:
        context.gap("the header of the array is malformed")
        scan_rest(context, source, min(start, source.size) if size <= LONGEST else 8 + width)
        return
    kind, shape = header
    if "O" in kind:
        context.descend("objects", RangeSource(source, start, max(0, source.size - start)))
        return
    left = source.size - start
    if is_pickle(RangeSource(source, start, min(left, WINDOW + 1)), nested=True, numbers=True):
        context.descend("items", RangeSource(source, start, left))
    length = find_array_size(kind, shape)
    if length is None:
        return
    if length > left:
        context.gap(f"{length - left} bytes of the array are missing")
    elif length < left:
        scan_rest(context, source, start + length)


def parse_header(text: str) -> tuple[str, tuple[int, ...]] | None:
    """Return the type as text, and the shape; None for a malformed header."""
    try:
        header = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    if not isinstance(header, dict) or "descr" not in header:
        return None
    shape = header.get("shape")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        return None
    kind = header["descr"]
    return (kind if isinstance(kind, str) else " ".join(list_types(kind))), shape


def list_types(kind: object) -> list[str]:
    """Return the types of a structure's fields; ``O``, the worst case, for an unreadable one."""
    found: list[str] = []
    todo = [kind]
    while todo:
        current = todo.pop()
        if isinstance(current, list):
            todo.extend(current)
        elif isinstance(current, tuple) and len(current) >= 2:
            todo.append(current[1])
        else:
            found.append(current if isinstance(current, str) else "O")
    return found


def find_array_size(kind: str, shape: tuple[int, ...]) -> int | None:
    """Return the bytes of an array of a plain type; None for structures."""
    plain = kind.lstrip("<>|=")
    digits = plain[1:].partition("[")[0]
    if not plain or not digits.isdecimal() or len(digits) > 9 or " " in plain:
        return None
    count = int(digits) * (4 if plain[0] == "U" else 1)
    for side in shape:
        count *= side
    return count
