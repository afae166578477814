"""NumPy's types, whose state a pickle sets: NumPy believes it, and takes bytes of the file for pointers if it is false.

The state is a tuple of version, byte order, sub-type, names, fields, item size, alignment and flags; see
``arraydescr_setstate`` in NumPy's ``descriptor.c``.
"""

from __future__ import annotations

import math
import re

from buildkit.scan.pickle.helpers import name_of
from buildkit.scan.pickle.values import CallResult, ContainerValue, Value

DTYPE = ("numpy", "dtype")
KIND = re.compile(r"[<>|=]?([a-zA-Z?])(\d{0,9})")
OBJECTS = 1  # NumPy's NPY_ITEM_HASOBJECT in the flags
DEEPEST = 32  # types within types
MOST_SIDES = 64  # of an array (NumPy's NPY_MAXDIMS)
STATE = 8  # entries of a state, or one more


def find_type_problem(target: CallResult) -> str:
    """Return why the state of a type cannot be right; empty if it can, or if ``target`` is something else."""
    if name_of(target.callee) != DTYPE:
        return ""
    state = target.state
    if target.builds > 1 or not isinstance(state, tuple) or len(state) not in (STATE, STATE + 1):
        return "its state is not one that NumPy writes"
    flags = state[7]
    if not isinstance(flags, int) or flags < 0:
        return "its flags are unknown"
    holds = holds_objects(target)
    if holds is None:
        return "what it holds is unknown"
    if holds != bool(flags & OBJECTS):
        return "its flags contradict what it holds: bytes would be taken for pointers"
    if has_own_size(target) and not (isinstance(state[5], int) and state[5] >= 0):
        return "the size of its items is negative, or unknown"
    return find_field_outside(state) or find_array_outside(state)


def has_own_size(kind: CallResult) -> bool:
    """Return whether NumPy takes the size of items from the state: of texts, bytes, and what has fields."""
    first = kind.args[0] if isinstance(kind.args, tuple) and kind.args else None
    found = KIND.fullmatch(first) if isinstance(first, str) else None
    return found is None or found[1] in "VSUax"


def holds_objects(kind: Value, depth: int = 0) -> bool | None:
    """Return whether items of a type are or contain objects; None if that is unknown."""
    if not isinstance(kind, CallResult) or name_of(kind.callee) != DTYPE or depth > DEEPEST:
        return None
    first = kind.args[0] if isinstance(kind.args, tuple) and kind.args else None
    found = KIND.fullmatch(first) if isinstance(first, str) else None
    if found and found[1] not in "Vx":
        return found[1] == "O"
    if not found and name_of(first)[0] not in ("numpy", "numpy.rec", "numpy.core.records", "numpy._core.records"):
        return None
    parts = list_inner_types(kind.state)
    if parts is None:
        return None
    held = [holds_objects(part, depth + 1) for part, _ in parts]
    return None if None in held else any(held)


def list_inner_types(state: Value) -> list[tuple[Value, Value]] | None:
    """Return the types in the state of a type, each with its offset; None if they are not all known."""
    if not isinstance(state, tuple) or len(state) < STATE:
        return []
    inner, fields = state[2], state[4]
    found: list[tuple[Value, Value]] = [(inner[0], 0)] if isinstance(inner, tuple) and inner else []
    if isinstance(fields, ContainerValue):
        pairs = fields.kept[1::2]
        if not fields.whole or not all(isinstance(pair, tuple) and len(pair) > 1 for pair in pairs):
            return None
        found += [(pair[0], pair[1]) for pair in pairs if isinstance(pair, tuple)]
    known = fields is None or isinstance(fields, ContainerValue)
    return found if known and (inner is None or isinstance(inner, tuple)) else None


def find_field_outside(state: tuple[Value, ...]) -> str:
    """Return which field lies outside of an item, where NumPy would read other memory; empty if none does."""
    size = state[5]
    for kind, offset in list_inner_types(state) or []:
        width = measure_type(kind)
        if not isinstance(size, int) or not isinstance(offset, int) or width is None:
            return "the size of a field is unknown"
        if offset < 0 or offset + width > size:
            return f"a field at byte {offset} does not fit into an item of {size} bytes"
    return ""


def find_array_outside(state: tuple[Value, ...]) -> str:
    """Return why the sub-array of an item, a pair of type and shape, lies outside of it; empty if it does not."""
    inner, size = state[2], state[5]
    if not isinstance(inner, tuple):
        return ""
    width = measure_type(inner[0]) if len(inner) == 2 else None
    count = count_items(inner[1]) if len(inner) == 2 else None
    if width is None or count is None or not isinstance(size, int):
        return "the size of a sub-array is unknown"
    return f"{count} items of {width} bytes do not fit into an item of {size} bytes" if width * count > size else ""


def count_items(shape: Value) -> int | None:
    """Return how many items an array has; None if its shape is not known, or is none."""
    sides = shape if isinstance(shape, tuple) else (shape,)
    if len(sides) > MOST_SIDES or not all(isinstance(side, int) and 0 <= side < 2**63 for side in sides):
        return None
    return math.prod(side for side in sides if isinstance(side, int))


def measure_type(kind: Value) -> int | None:
    """Return the bytes of an item of a type; None if they are unknown."""
    if not isinstance(kind, CallResult) or not isinstance(kind.args, tuple) or not kind.args:
        return None
    size = kind.state[5] if isinstance(kind.state, tuple) and len(kind.state) >= STATE else -1
    if isinstance(size, int) and size >= 0:
        return size
    found = KIND.fullmatch(kind.args[0]) if isinstance(kind.args[0], str) else None
    return int(found[2]) if found and found[2] else None
