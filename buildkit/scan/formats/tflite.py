"""TensorFlow Lite: the operators and buffers of a flatbuffer.

Schema: tensorflow/lite/schema/schema.fbs; layout: flatbuffers.dev/internals.
"""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import graphops
from buildkit.scan.formats.cursor import MalformedContentError, PagedSource, quote
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource

CUSTOM = Rule(
    id="tflite-custom-op",
    title="A TensorFlow Lite operator that is not built in",
    severity=Severity.NOTE,
    why="Native code runs it, which the application has to register.",
    advice="Find out where that code comes from.",
)
BENT = Rule(
    id="tflite-bent",
    title="A TensorFlow Lite buffer outside the file",
    severity=Severity.HIGH,
    why="An interpreter that does not verify the model reads out of bounds.",
    advice="Do not load the model.",
    references=("https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md",),
)
_MOST = 1_000_000
_KNOWN = frozenset({"TFLite_Detection_PostProcess", "Convolution2DTransposeBias", "MaxPoolingWithArgmax2D"})


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise the file identifier after the root's offset."""
    return head[4:8] == b"TFL3" and source.size > 16


def scan(context: ScanContext, source: ScanSource) -> None:
    """Check the operators' names and the buffers' positions.

    Raises:
        MalformedContentError: a table or vector is outside the file.
        LimitError: there are more than are read.
    """
    window = PagedSource(source)
    root = window.number(0, 4)
    for code in _tables(window, _field(window, root, 1)):
        name = _string(window, _field(window, code, 1))
        if name and not graphops.check_op(context, name) and name not in _KNOWN and not name.startswith("Flex"):
            context.find(CUSTOM, f"the operator {quote(name)} is used", offset=code)
    for buffer in _tables(window, _field(window, root, 4)):
        _check_buffer(context, window, buffer)


def _check_buffer(context: ScanContext, window: PagedSource, buffer: int) -> None:
    data = _field(window, buffer, 0)
    if data is not None:
        at = data + window.number(data, 4)
        if at + 4 > window.size or at + 4 + window.number(at, 4) > window.size:
            context.find(BENT, "a buffer ends beyond the file", offset=buffer)
    offset, size = (_field(window, buffer, number) for number in (1, 2))
    if offset is not None and size is not None and window.number(offset, 8) + window.number(size, 8) > window.size:
        context.find(BENT, "a buffer outside the tables ends beyond the file", offset=buffer)


def _field(window: PagedSource, table: int, number: int) -> int | None:
    """Return the position of a table's field; None if it is absent."""
    place = window.number(table, 4)
    vtable = table - (place - 2**32 if place >= 2**31 else place)
    if 4 + 2 * number + 2 > window.number(vtable, 2):
        return None
    offset = window.number(vtable + 4 + 2 * number, 2)
    return table + offset if offset else None


def _tables(window: PagedSource, vector: int | None) -> Iterator[int]:
    if vector is None:
        return
    at = vector + window.number(vector, 4)
    count = window.number(at, 4)
    if at + 4 + 4 * count > window.size:
        raise MalformedContentError(f"a vector of {count} tables", at)
    if count > _MOST:
        raise LimitError(f"a vector of more than {_MOST} tables")
    for place in range(at + 4, at + 4 + 4 * count, 4):
        yield place + window.number(place, 4)


def _string(window: PagedSource, field: int | None) -> str:
    if field is None:
        return ""
    at = field + window.number(field, 4)
    return window.read(at + 4, min(window.number(at, 4), 1000)).decode(errors="backslashreplace")
