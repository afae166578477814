"""The pickle machine on abstract values: it follows a stream as an unpickler would, and calls nothing.

Follows CPython's ``Modules/_pickle.c`` and ``Lib/pickle.py``, which differ in places. Where they do, or where a real
unpickler would stop because of a value that is abstract here, this machine continues with an unknown value (``sound``
becomes False), so that nothing after that point is missed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.limits import LimitError
from buildkit.scan.pickle.values import UNKNOWN, ByteString, CallResult, Global, LongText, Value
from buildkit.scan.windowed_reader import TruncatedError, WindowedReader

BATCH = 4096
RENAMING = 3  # protocols below it have Python 2 names
NO_FRAME = 2**100  # where no frame ends
ANOMALIES = 64  # a stream with more counts as broken


class BrokenPickleError(Exception):
    """No unpickler continues from here."""


class Watcher(Protocol):
    """Receives what the stream does, in its order."""

    def imported(self, symbol: Global) -> None:
        """A global is fetched, which imports its module."""

    def unresolved(self, module: Value, name: Value, offset: int) -> None:
        """A global is fetched whose name is not a constant."""

    def ambiguous(self, why: str, offset: int) -> None:
        """Unpicklers read the stream differently from here."""

    def extension(self, code: int, offset: int) -> None:
        """A global is fetched by its number in the extension registry."""

    def called(self, callee: Value, args: Value, offset: int) -> Value:
        """Something is called; returns what is known of the result, else UNKNOWN."""

    def built(self, machine: PickleMachine, target: Value, state: Value, offset: int) -> None:
        """State is set; may advance the machine's reader over an array in the stream."""

    def gathered(self, symbol: Global, offset: int) -> None:
        """A global is put into a tuple or a container, where its use can no longer be followed."""

    def filled(self, target: Value, values: list[Value], offset: int) -> None:
        """Entries are put into something other than a list, set or dict of the stream."""

    def hashed(self, keys: list[Value], offset: int) -> None:
        """Values become keys of a dict or entries of a set."""

    def persistent(self, key: Value, offset: int) -> Value:
        """A persistent id is passed to the loader; returns what is known of its object."""

    def constant(self, value: ByteString | LongText | str, offset: int) -> None:
        """A text or bytes constant, which may hold nested content."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream: after STOP (``why`` is empty), or where and why it broke; ``top`` is its value.

    ``torn``: it broke because the source ends; ``odd`` is the first place at which an unpickler would have stopped.
    """

    offset: int
    opcodes: int
    top: Value
    why: str = ""
    odd: str = ""
    torn: bool = False

    @property
    def sound(self) -> bool:
        """Whether an unpickler would have got this far."""
        return not self.odd


Handler = Callable[["PickleMachine"], None]


class PickleMachine:
    """Stack, marks and memo of one stream."""

    __slots__ = (
        "frame_end",
        "made",
        "marks",
        "memo",
        "most",
        "odd",
        "operate",
        "proto",
        "reader",
        "stack",
        "start",
        "watcher",
    )

    def __init__(self, reader: WindowedReader, watcher: Watcher, operate: Callable[[int], None], most: int) -> None:
        """``operate`` counts opcodes in batches and raises LimitError; ``most`` bounds stack and memo."""
        self.reader = reader
        self.watcher = watcher
        self.operate = operate
        self.most = most
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int | bytes, Value] = {}  # numbers too long for an int by their digits
        self.frame_end = NO_FRAME
        self.proto = 0
        self.start = reader.offset
        self.made = 0
        self.odd: list[str] = []

    def note_anomaly(self, why: str) -> None:
        """Record that an unpickler would refuse this; raises BrokenPickleError after too many anomalies."""
        self.odd.append(f"{why} at byte {self.start}")
        if len(self.odd) > ANOMALIES:
            raise BrokenPickleError(self.odd[0])

    def pop(self) -> Value:
        """Remove and return the top of the stack."""
        if len(self.stack) > (self.marks[-1] if self.marks else 0):
            return self.stack.pop()
        self.note_anomaly("the stack is empty")
        return UNKNOWN

    def top(self) -> Value:
        """Return the top of the stack."""
        if len(self.stack) > (self.marks[-1] if self.marks else 0):
            return self.stack[-1]
        self.note_anomaly("the stack is empty")
        return UNKNOWN

    def pop_mark(self) -> list[Value]:
        """Remove the last mark and everything above it; return the values."""
        if not self.marks:
            self.note_anomaly("there is no mark")
            return []
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def fetch(self, module: str, name: str) -> None:
        """Push a global."""
        symbol = Global(module, name, self.start, self.proto < RENAMING)
        self.watcher.imported(symbol)
        self.stack.append(symbol)

    def call(self, callee: Value, args: Value) -> None:
        """Push the result of a call."""
        self.made += 1
        if callee is UNKNOWN:
            self.note_anomaly("something unknown is called")
        result = self.watcher.called(callee, args, self.start)
        self.stack.append(CallResult(callee, args) if result is UNKNOWN else result)

    def leave_frame(self) -> None:
        """Note the end of a frame; the C unpickler forgets what is left of its buffer if an opcode crosses the end."""
        if 0 < self.frame_end < self.start:
            self.watcher.ambiguous("an opcode crosses the end of a frame", self.frame_end)
        self.frame_end = NO_FRAME

    def enter_frame(self, end: int) -> None:
        """Note that a frame follows, up to ``end``."""
        if self.frame_end == NO_FRAME:
            self.frame_end = end
        elif end > self.frame_end > self.reader.offset:
            self.watcher.ambiguous("a frame crosses the end of another", self.start)

    def account_batch(self) -> None:
        """Account for a batch of opcodes, each of which makes at most one object.

        Raises:
            LimitError: too many opcodes, or the stack or the memo is too large.
        """
        self.operate(BATCH)
        if len(self.stack) + len(self.marks) + len(self.memo) > self.most or self.made > self.most:
            raise LimitError(f"more than {self.most} values are in a pickle's memo and stack, or objects in it")


def run_machine(machine: PickleMachine, table: list[Handler | None], stop: int) -> StreamEnd:
    """Run ``machine`` until the opcode ``stop``, or until the stream breaks.

    ``table`` holds a handler for each known opcode.

    Raises:
        LimitError: a limit ended the run.
    """
    reader, count = machine.reader, 0
    why, torn = "", False
    top: Value = UNKNOWN
    try:
        while True:
            machine.start = reader.base + reader.at
            if machine.start >= machine.frame_end:
                machine.leave_frame()
            op = reader.byte()
            count += 1
            if not count % BATCH:
                machine.account_batch()
            handler = table[op]
            if handler is not None:
                handler(machine)
            elif op == stop:
                top = machine.pop()
                break
            else:
                why = f"byte {op:#04x} at byte {machine.start} is not an opcode"
                break
    except (TruncatedError, BrokenPickleError) as error:
        why, torn = str(error), isinstance(error, TruncatedError)
    machine.operate(count % BATCH)
    offset = machine.start if why else reader.offset
    return StreamEnd(offset, count, top, why, machine.odd[0] if machine.odd else "", torn)
