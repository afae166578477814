"""Chrome's trace events, read one by one: a trace of a minute has gigabytes once it is a value. Pure, given a file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from json.decoder import WHITESPACE  # type: ignore[attr-defined] # as the decoder skips it
from typing import Any, BinaryIO

from buildkit.profiling.trace_files import TraceError

_CHUNK = 1 << 20
_LONGEST = 4 << 20  # characters of one value: an event, or what stands before the events
_DECODER = json.JSONDecoder()


def read_events(file: BinaryIO, what: str) -> Iterator[Any]:
    """Yield the events of a trace: those of its list (ONNX Runtime), or of the list ``traceEvents`` (torch).

    What follows the events is not read. Raises TraceError for what is no such trace.
    """
    text = _JsonText(file, what)
    if text.peek() == "{":
        text.take("{")
        while text.take_value() != "traceEvents":
            text.take(":")
            text.take_value()
            text.take(",")
        text.take(":")
    text.take("[")
    while text.peek() != "]":
        yield text.take_value()
        if text.peek() != "]":
            text.take(",")


class _JsonText:
    """JSON of which only a part is held."""

    def __init__(self, file: BinaryIO, what: str) -> None:
        self._file, self._what = file, what
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text, self._at = "", 0

    def peek(self) -> str:
        """Return the next character that is no space. Raises TraceError at the end."""
        while True:
            self._at = WHITESPACE.match(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                raise self._wrong()

    def take(self, mark: str) -> None:
        """Read a character."""
        if self.peek() != mark:
            raise self._wrong()
        self._at += 1

    def take_value(self) -> Any:  # noqa: ANN401 - a JSON value
        """Read a value, which ends before the text that is held does: a number might go on."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except ValueError:
                end = len(self._text)
            except RecursionError:
                raise self._wrong() from None
            if end < len(self._text):
                self._at = end
                return value
            if end - self._at > _LONGEST or not self._read_on():
                raise self._wrong()

    def _read_on(self) -> bool:
        data = self._file.read(_CHUNK)
        self._text, self._at = self._text[self._at :] + self._decode(data, not data), 0
        return bool(data)

    def _wrong(self) -> TraceError:
        return TraceError(f"{self._what} is not JSON of trace events")
