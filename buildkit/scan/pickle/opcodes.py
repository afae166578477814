"""Opcodes that move values, make containers, fetch globals and call; the table of them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from buildkit.scan.limits import ScanLimits
from buildkit.scan.pickle.constants import HANDLERS as CONSTANTS
from buildkit.scan.pickle.constants import WHOLE
from buildkit.scan.pickle.machine import Handler, PickleMachine, StreamEnd, Watcher, make_container, run_machine
from buildkit.scan.pickle.values import UNKNOWN, Container, Global, Value
from buildkit.scan.source import ScanSource
from buildkit.scan.windowed_reader import WindowedReader

STOP = 0x2E


def ignore(machine: PickleMachine, width: int) -> None:
    """An argument that steers only how an unpickler reads ahead (FRAME), or nothing (READONLY_BUFFER)."""
    if width:
        machine.reader.take(width)


def proto(machine: PickleMachine) -> None:
    """The protocol that follows."""
    machine.proto = machine.reader.byte()


def mark(machine: PickleMachine) -> None:
    """Begin a group."""
    machine.marks.append(len(machine.stack))


def pop(machine: PickleMachine) -> None:
    """Drop the top, or a mark that is there instead."""
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


def pop_mark(machine: PickleMachine) -> None:
    """Drop a group."""
    machine.pop_mark()


def dup(machine: PickleMachine) -> None:
    """The top once more: the same object."""
    machine.stack.append(machine.top())


def line_number(machine: PickleMachine) -> int:
    """A number in decimal up to the end of the line."""
    raw, _ = machine.reader.line(WHOLE)
    try:
        return int(raw[:40])
    except ValueError:
        machine.strange("a number is none")
        return -1


def put(machine: PickleMachine, width: int) -> None:
    """Remember the top."""
    at = machine.reader.number(width) if width else line_number(machine)
    machine.memo[at] = machine.top()


def memoize(machine: PickleMachine) -> None:
    """Remember the top under the next number."""
    machine.memo[len(machine.memo)] = machine.top()


def get(machine: PickleMachine, width: int) -> None:
    """Push what was remembered."""
    at = machine.reader.number(width) if width else line_number(machine)
    if at not in machine.memo:
        machine.strange(f"nothing is remembered as {at}")
    machine.stack.append(machine.memo.get(at, UNKNOWN))


def empty(machine: PickleMachine, kind: str) -> None:
    """A new container."""
    machine.made += 1
    machine.stack.append(Container(kind))


def group(machine: PickleMachine, kind: str) -> None:
    """A container of a group."""
    machine.made += 1
    machine.stack.append(make_container(kind, machine.pop_mark()))


def group_tuple(machine: PickleMachine) -> None:
    """A tuple of a group."""
    machine.made += 1
    machine.stack.append(tuple(machine.pop_mark()))


def short_tuple(machine: PickleMachine, size: int) -> None:
    """A tuple of the last ``size`` values."""
    machine.made += 1
    values = [machine.pop() for _ in range(size)]
    machine.stack.append(tuple(reversed(values)))


def fill(machine: PickleMachine, take: Callable[[PickleMachine], list[Value]]) -> None:
    """Put values into the container below them; anything else is asked to take them by a method of its own."""
    values = take(machine)
    target = machine.top()
    if isinstance(target, Container):
        target.add(values)
        if not any(isinstance(value, Global) for value in values):
            return
    machine.watcher.filled(target, values, machine.start)


def pop_value(machine: PickleMachine) -> list[Value]:
    """The top."""
    return [machine.pop()]


def pop_pair(machine: PickleMachine) -> list[Value]:
    """A key and its value."""
    value = machine.pop()
    return [machine.pop(), value]


def global_lines(machine: PickleMachine) -> tuple[str, str]:
    """Module and name on a line each; an unpickler takes the last byte of an unended line for its end."""
    words = []
    for _ in range(2):
        raw, ended = machine.reader.line(WHOLE)
        raw = raw if ended else raw[:-1]
        words.append(raw.decode("utf-8", "replace"))
    return words[0], words[1]


def global_(machine: PickleMachine) -> None:
    """A global named by lines."""
    machine.fetch(*global_lines(machine))


def stack_global(machine: PickleMachine) -> None:
    """A global named by what was pushed."""
    name = machine.pop()
    module = machine.pop()
    if isinstance(module, str) and isinstance(name, str):
        machine.fetch(module, name)
    else:
        machine.watcher.unresolved(module, name, machine.start)
        machine.stack.append(UNKNOWN)


def extension(machine: PickleMachine, width: int) -> None:
    """A global by its number."""
    machine.watcher.extension(machine.reader.number(width), machine.start)
    machine.stack.append(UNKNOWN)


def reduce(machine: PickleMachine) -> None:
    """Call with arguments; NEWOBJ is ``callee.__new__`` with them."""
    args = machine.pop()
    machine.call(machine.pop(), args)


def newobj_ex(machine: PickleMachine) -> None:
    """Make with arguments by name, too."""
    names = machine.pop()
    args = machine.pop()
    machine.call(machine.pop(), (args, names))


def inst(machine: PickleMachine) -> None:
    """Call a global named by lines with a group."""
    machine.fetch(*global_lines(machine))
    callee = machine.stack.pop()
    machine.call(callee, tuple(machine.pop_mark()))


def obj(machine: PickleMachine) -> None:
    """Call the first of a group with the others."""
    values = machine.pop_mark()
    if not values:
        machine.strange("there is nothing to call")
        values = [UNKNOWN]
    machine.call(values[0], tuple(values[1:]))


def build(machine: PickleMachine) -> None:
    """Set state."""
    state = machine.pop()
    machine.watcher.built(machine, machine.top(), state, machine.start)


def persid(machine: PickleMachine) -> None:
    """A persistent id on a line."""
    raw, _ = machine.reader.line(WHOLE)
    machine.stack.append(machine.watcher.persistent(raw.decode("utf-8", "replace"), machine.start))


def binpersid(machine: PickleMachine) -> None:
    """A persistent id that was pushed."""
    machine.stack.append(machine.watcher.persistent(machine.pop(), machine.start))


HANDLERS: dict[bytes, Handler] = CONSTANTS | {
    b"\x80": proto,
    b"\x95": partial(ignore, width=8),
    b"\x98": partial(ignore, width=0),
    b"(": mark,
    b"0": pop,
    b"1": pop_mark,
    b"2": dup,
    b"p": partial(put, width=0),
    b"q": partial(put, width=1),
    b"r": partial(put, width=4),
    b"\x94": memoize,
    b"g": partial(get, width=0),
    b"h": partial(get, width=1),
    b"j": partial(get, width=4),
    b"]": partial(empty, kind="list"),
    b"}": partial(empty, kind="dict"),
    b"\x8f": partial(empty, kind="set"),
    b"l": partial(group, kind="list"),
    b"d": partial(group, kind="dict"),
    b"\x91": partial(group, kind="set"),
    b"t": group_tuple,
    b"\x85": partial(short_tuple, size=1),
    b"\x86": partial(short_tuple, size=2),
    b"\x87": partial(short_tuple, size=3),
    b"a": partial(fill, take=pop_value),
    b"s": partial(fill, take=pop_pair),
    b"e": partial(fill, take=PickleMachine.pop_mark),
    b"u": partial(fill, take=PickleMachine.pop_mark),
    b"\x90": partial(fill, take=PickleMachine.pop_mark),
    b"c": global_,
    b"\x93": stack_global,
    b"\x82": partial(extension, width=1),
    b"\x83": partial(extension, width=2),
    b"\x84": partial(extension, width=4),
    b"R": reduce,
    b"\x81": reduce,
    b"\x92": newobj_ex,
    b"i": inst,
    b"o": obj,
    b"b": build,
    b"P": persid,
    b"Q": binpersid,
}
TABLE: list[Handler | None] = [HANDLERS.get(bytes((code,))) for code in range(256)]


def run_pickle(
    source: ScanSource, start: int, watcher: Watcher, operate: Callable[[int], None], limits: ScanLimits
) -> StreamEnd:
    """Follow the stream at ``start``; ``operate`` is told of its opcodes.

    Raises:
        LimitError: a limit ended it.
    """
    return run_machine(PickleMachine(WindowedReader(source, start), watcher, operate, limits.memo), TABLE, STOP)
