"""joblib's arrays: after the BUILD of a NumpyArrayWrapper, the stream holds the array itself.

Follows ``numpy_pickle.py`` of joblib 0.10 to 1.5: an array of objects is a nested pickle; any other array is its items,
preceded by a count and that many bytes of padding if ``numpy_array_alignment_bytes`` is set. ``pickle.load`` would
interpret the same bytes as opcodes, so they are also tried as such.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from buildkit.scan.context import ScanContext
from buildkit.scan.limits import LimitError
from buildkit.scan.pickle.calls import WRAPPER
from buildkit.scan.pickle.machine import NO_FRAME, PickleMachine, StreamEnd
from buildkit.scan.pickle.opcodes import HANDLERS
from buildkit.scan.pickle.recognise import is_pickle
from buildkit.scan.pickle.values import CallResult, ContainerValue, Global, Value
from buildkit.scan.source import RangeSource, ScanSource
from buildkit.scan.windowed_reader import TruncatedError

ScanStream = Callable[[ScanContext, ScanSource, int], StreamEnd]  # scans the pickle stream at an offset of a source

KIND = re.compile(r"[<>|=]?([a-zA-Z?])(\d*)")
ALIGNMENT = "numpy_array_alignment_bytes"
OPCODES = frozenset(key[0] for key in HANDLERS)
SIDES = 64  # of an array's shape; NumPy has no more
OBJECTS = 1  # NumPy's NPY_ITEM_HASOBJECT in a dtype's flags
SIZES = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "l": 8, "L": 8, "q": 8, "Q": 8, "e": 2, "f": 4, "d": 8}


def follow_array(
    machine: PickleMachine, context: ScanContext, source: ScanSource, wrapper: CallResult, scan_stream: ScanStream
) -> None:
    """Move the machine past the array that follows, if ``wrapper`` announces one.

    Raises:
        TruncatedError: the array is longer than the file, or its length is unknown.
    """
    if not (isinstance(wrapper.callee, Global) and (wrapper.callee.module, wrapper.callee.name) == WRAPPER):
        return
    state = wrapper.state
    if not isinstance(state, ContainerValue) or not is_plain_state(wrapper, state):
        raise TruncatedError(f"the array at byte {machine.reader.offset} has no readable state")
    if NO_FRAME > machine.frame_end > machine.reader.offset:
        raise TruncatedError(f"the array at byte {machine.reader.offset} lies within a frame, where joblib reads none")
    machine.frame_end = NO_FRAME
    count, (width, holds_objects) = count_elements(state.get("shape")), find_item_size(state.get("dtype"))
    if holds_objects:
        follow_objects(machine, context, source, scan_stream)
        if state.get("allow_mmap") is not False:  # which a mapping loader skips by their number, not by their pickle
            raise TruncatedError(f"the objects before byte {machine.reader.offset} may be mapped as memory")
        return
    scan_if_opcodes(context, source, machine.reader.offset, scan_stream)
    padding = machine.reader.byte() if state.get(ALIGNMENT) is not None else None
    machine.reader.skip(padding or 0)
    start = machine.reader.offset
    if count is None or width is None:
        raise TruncatedError(f"the length of the array at byte {start} is unknown")
    if size := count * width:
        is_reached = padding is None or padding in OPCODES
        scan_if_opcodes(context, source, start, scan_stream, None if is_reached else size)
    machine.reader.skip(size)


def scan_if_opcodes(
    context: ScanContext, source: ScanSource, start: int, scan_stream: ScanStream, size: int | None = None
) -> None:
    """Scan the bytes at ``start`` as opcodes, if they act; with a ``size``, if so many of them do.

    That is for an array that ``pickle.load`` does not reach, as it breaks off at the count of the padding. Numbers that
    begin like a text by chance reach into what follows, the stream itself, whose globals would make them a pickle.
    """
    rest = max(0, source.size - start)
    if is_pickle(RangeSource(source, start, rest if size is None else min(size, rest)), nested=True, numbers=True):
        scan_nested_stream(context, source, start, scan_stream)


def follow_objects(machine: PickleMachine, context: ScanContext, source: ScanSource, scan_stream: ScanStream) -> None:
    """Scan the pickle that replaces an array of objects, and continue after it."""
    ending = scan_nested_stream(context, source, machine.reader.offset, scan_stream)
    if ending.why:
        raise TruncatedError(f"the objects of an array: {ending.why}")
    machine.reader.skip(ending.offset - machine.reader.offset)


def scan_nested_stream(context: ScanContext, source: ScanSource, start: int, scan_stream: ScanStream) -> StreamEnd:
    """Scan a stream within a stream. Raises LimitError if streams are nested too deeply."""
    context.depth += 1
    try:
        if context.depth > context.budget.limits.depth:
            raise LimitError(f"nested deeper than {context.budget.limits.depth} levels")
        return scan_stream(context, source, start)
    finally:
        context.depth -= 1


def is_plain_state(wrapper: CallResult, state: ContainerValue) -> bool:
    """Return whether all attributes of a wrapper are known: it has no earlier state, and this one has no odd keys."""
    known = state.kind == "dict" and state.whole and not state.computed
    aligned = state.get(ALIGNMENT)
    return known and (aligned is None or isinstance(aligned, int)) and wrapper.builds == 1 and wrapper.args == ()


def count_elements(shape: Value) -> int | None:
    """Return how many items an array of ``shape`` has; None if that is unknown."""
    if not isinstance(shape, tuple) or len(shape) > SIDES:
        return None
    sides = [side for side in shape if isinstance(side, int) and 0 <= side < 2**63]
    return math.prod(sides) if len(sides) == len(shape) else None


def find_item_size(dtype: Value) -> tuple[int | None, bool]:
    """Return the bytes of an item of ``dtype``, None if unknown, and whether items are objects."""
    if not isinstance(dtype, CallResult) or not isinstance(dtype.args, tuple) or not dtype.args:
        return None, False
    if not isinstance(dtype.callee, Global) or dtype.callee.path != "numpy.dtype":
        return None, False
    if dtype.builds > 1:
        return None, False
    state = dtype.state if isinstance(dtype.state, tuple) else ()
    flags = state[7] if len(state) > 7 else -1
    if isinstance(flags, int) and flags >= 0 and flags & OBJECTS:
        return None, True
    name = dtype.args[0]
    found = KIND.fullmatch(name) if isinstance(name, str) and len(name) < 20 else None
    if found is None:
        return None, False
    if found[1] == "O":  # NumPy believes the flags
        return None, flags == -1
    width = int(found[2]) if found[2] else SIZES.get(found[1])
    width = width * 4 if width is not None and found[1] == "U" else width
    item_size = state[5] if len(state) > 5 else -1
    # NumPy takes the size from the state for some types only; if the two sizes differ, neither is certain
    return (width if item_size in (-1, width) else None), False
