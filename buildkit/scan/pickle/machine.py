"""The pickle machine on abstract values: it follows a stream as an unpickler would and calls nothing.

After CPython's ``Modules/_pickle.c`` and ``Lib/pickle.py``, whose behaviours differ in places; where they do, and
where a real unpickler would give up over a value that is only abstract here, this machine goes on with an unknown
value (``sound`` becomes False), so that nothing behind the place is missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from buildkit.scan.limits import LimitError
from buildkit.scan.pickle.values import UNKNOWN, ByteString, CallResult, Container, Global, LongText, Value
from buildkit.scan.windowed_reader import TruncatedError, WindowedReader

BATCH = 4096
ODD = 64  # places where a stream may be unsound before it counts as broken


class BrokenPickleError(Exception):
    """No unpickler goes on from here."""


class Watcher(Protocol):
    """Who is told what the stream does, in its order."""

    def imported(self, one: Global) -> None:
        """A global is fetched, which imports its module."""

    def unresolved(self, module: Value, name: Value, offset: int) -> None:
        """A global is fetched whose name is not a constant."""

    def extension(self, code: int, offset: int) -> None:
        """A global is fetched by its number in the extension registry."""

    def called(self, callee: Value, args: Value, offset: int) -> Value:
        """Something is called; gives what is known of the outcome, UNKNOWN where nothing is."""

    def built(self, machine: PickleMachine, target: Value, state: Value, offset: int) -> None:
        """State is set; may move the machine's tape on (over an array in the stream)."""

    def filled(self, target: Value, values: list[Value], offset: int) -> None:
        """Globals are put into a container, or entries into something that is not one of this stream."""

    def persistent(self, key: Value, offset: int) -> Value:
        """A persistent id is handed to the loader; gives what is known of its object."""

    def constant(self, value: ByteString | LongText | str, offset: int) -> None:
        """A text or bytes constant that may hold something."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream ended: behind STOP (``why`` is empty), or where and why it broke; ``top`` is what it gives.

    ``torn``: it broke because the source ends; ``odd`` is the first place where an unpickler would have given up.
    """

    offset: int
    opcodes: int
    top: Value
    why: str = ""
    odd: str = ""
    torn: bool = False

    @property
    def sound(self) -> bool:
        """Whether an unpickler would have come so far."""
        return not self.odd


Handler = Callable[["PickleMachine"], None]


class PickleMachine:
    """Stack, marks and memo of one stream; ``table`` holds a handler for each opcode it knows."""

    __slots__ = ("made", "marks", "memo", "most", "odd", "operate", "proto", "reader", "stack", "start", "watcher")

    def __init__(self, reader: WindowedReader, watcher: Watcher, operate: Callable[[int], None], most: int) -> None:
        """``operate`` is told of opcodes in batches and raises LimitError; ``most`` bounds stack and memo."""
        self.reader = reader
        self.watcher = watcher
        self.operate = operate
        self.most = most
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}
        self.proto = 0
        self.start = reader.offset
        self.made = 0
        self.odd: list[str] = []

    def strange(self, why: str) -> None:
        """Keep that an unpickler would have refused this; raises BrokenPickleError when that was too often."""
        self.odd.append(f"{why} at byte {self.start}")
        if len(self.odd) > ODD:
            raise BrokenPickleError(self.odd[0])

    def pop(self) -> Value:
        """Take the top of the stack."""
        if len(self.stack) > (self.marks[-1] if self.marks else 0):
            return self.stack.pop()
        self.strange("the stack is empty")
        return UNKNOWN

    def top(self) -> Value:
        """Look at the top of the stack."""
        if len(self.stack) > (self.marks[-1] if self.marks else 0):
            return self.stack[-1]
        self.strange("the stack is empty")
        return UNKNOWN

    def pop_mark(self) -> list[Value]:
        """Take everything above the last mark, and the mark."""
        if not self.marks:
            self.strange("there is no mark")
            return []
        at = self.marks.pop()
        taken = self.stack[at:]
        del self.stack[at:]
        return taken

    def fetch(self, module: str, name: str) -> None:
        """Push a global."""
        one = Global(module, name, self.start)
        self.watcher.imported(one)
        self.stack.append(one)

    def call(self, callee: Value, args: Value) -> None:
        """Push what calling gives."""
        self.made += 1
        given = self.watcher.called(callee, args, self.start)
        self.stack.append(CallResult(callee, args) if given is UNKNOWN else given)

    def check(self) -> None:
        """Account for a batch of opcodes, of which each makes at most one object.

        Raises:
            LimitError: too many opcodes, or too large a stack or memo.
        """
        self.operate(BATCH)
        if len(self.stack) + len(self.marks) + len(self.memo) > self.most or self.made > self.most:
            raise LimitError(f"more than {self.most} values are in a pickle's memo and stack, or objects in it")


def run_machine(machine: PickleMachine, table: list[Handler | None], stop: int) -> StreamEnd:
    """Run ``machine`` until the opcode ``stop`` or until the stream breaks.

    Raises:
        LimitError: a limit ended it.
    """
    reader, count = machine.reader, 0
    why, torn = "", False
    top: Value = UNKNOWN
    try:
        while True:
            machine.start = reader.base + reader.at
            op = reader.byte()
            count += 1
            if not count % BATCH:
                machine.check()
            handler = table[op]
            if handler is not None:
                handler(machine)
            elif op == stop:
                top = machine.pop()
                break
            else:
                why = f"byte {op:#04x} at byte {machine.start} is no opcode"
                break
    except (TruncatedError, BrokenPickleError) as error:
        why, torn = str(error), isinstance(error, TruncatedError)
    machine.operate(count % BATCH)
    offset = machine.start if why else reader.offset
    return StreamEnd(offset, count, top, why, machine.odd[0] if machine.odd else "", torn)


def make_container(kind: str, values: list[Value]) -> Container:
    """A new container of ``values``."""
    items = Container(kind)
    items.add(values)
    return items
