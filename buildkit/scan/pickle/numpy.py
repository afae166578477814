"""NumPy's ``.npy``: an array of objects is a pickle that follows the header.

Follows NumPy's ``lib/format.py``: magic, version, length of the header, a Python literal of a dict, the items. NumPy
takes any description of a type that ``numpy.dtype`` understands; what is not certain to be numbers counts as objects.
"""

from __future__ import annotations

import ast
import math
import re

from buildkit.scan.context import Declared, ScanContext
from buildkit.scan.pickle.net import find_calls_at_start
from buildkit.scan.pickle.recognise import is_pickle
from buildkit.scan.pickle.streams import scan_rest
from buildkit.scan.source import RangeSource, ScanSource

MAGIC = b"\x93NUMPY"
LONGEST = 64 * 2**10  # bytes of a header that is read
DEEPEST = 32  # structures within structures
PLAIN = re.compile(r"[<>|=]?([biufcSaUVmM])(\d{1,9})(?:\[\d*\w+\])?")
WORD = re.compile(r"(?:u?int|float|complex)(8|16|32|64|128)|(bool)")


def recognise(head: bytes, source: ScanSource) -> bool:
    """Return whether content is a NumPy array."""
    return head.startswith(MAGIC) and source.size >= 10


def scan(context: ScanContext, source: ScanSource) -> None:
    """Scan an array of objects; numbers need no scan."""
    major = source.read(6, 1)[0]
    width = 2 if major < 2 else 4
    size = int.from_bytes(source.read(8, width), "little")
    start = 8 + width + size
    raw = source.read(8 + width, min(size, LONGEST))
    header = parse_header(raw, "utf-8" if major > 2 else "latin-1") if size <= LONGEST else None
    if header is None:
        context.gap("the header of the array is malformed")
        scan_rest(context, source, min(start, source.size) if size <= LONGEST else 8 + width)
        return
    item, count = header
    left = max(0, source.size - start)
    items = RangeSource(source, start, left)
    if item is None:
        context.descend("objects", items, Declared.PICKLE_STREAM)
        return
    if is_pickle(items, nested=True, numbers=True):
        context.descend("items", items, Declared.PICKLE_STREAM)
    elif find_calls_at_start(RangeSource(source, start, min(left, item * count))):
        context.descend("items", items)
    if item * count > left:
        context.gap(f"{item * count - left} bytes of the array are missing")
    elif item * count < left:
        scan_rest(context, source, start + item * count)


LONG = re.compile(r"(\d)L\b")  # as Python 2 wrote long integers; NumPy reads them, too


def parse_header(raw: bytes, encoding: str) -> tuple[int | None, int] | None:
    """Return the bytes of an item, None if it may hold objects, and how many there are; None for a malformed header."""
    try:
        header = ast.literal_eval(LONG.sub(r"\1", raw.decode(encoding).strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    if not isinstance(header, dict) or "descr" not in header:
        return None
    count = count_items(header.get("shape"))
    return None if count is None else (measure_item(header["descr"]), count)


def count_items(shape: object) -> int | None:
    """Return the product of the sides of a shape; None if it is not one."""
    if not isinstance(shape, tuple) or len(shape) > 64:
        return None
    sides = [side for side in shape if type(side) is int and 0 <= side < 2**63]
    return math.prod(sides) if len(sides) == len(shape) else None


def measure_item(kind: object, depth: int = 0) -> int | None:
    """Return the bytes of an item of a type that is certain to be numbers or text; None for all others.

    ``kind`` is a name, a pair of type and shape, or a list of fields: name, type, and perhaps a shape.
    """
    if isinstance(kind, str):
        return measure_plain(kind)
    if depth > DEEPEST:
        return None
    if isinstance(kind, tuple) and len(kind) == 2:
        size, count = measure_item(kind[0], depth + 1), count_items(kind[1] if isinstance(kind[1], tuple) else kind[1:])
        return None if size is None or count is None else size * count
    if not isinstance(kind, list):
        return None
    total = 0
    for field in kind:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            return None
        size = measure_item(field[1] if len(field) == 2 else field[1:], depth + 1)
        if size is None:
            return None
        total += size
    return total


def measure_plain(kind: str) -> int | None:
    """Return the bytes of an item of a named type; None if the name is not known to be one of numbers or text."""
    if found := PLAIN.fullmatch(kind):
        return int(found[2]) * (4 if found[1] == "U" else 1)
    if found := WORD.fullmatch(kind):
        return 1 if found[2] else int(found[1]) // 8
    return None
