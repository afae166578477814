"""Opcodes that move values, make containers, fetch globals and call; the table of all opcodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from buildkit.scan.limits import ScanLimits
from buildkit.scan.pickle.constants import HANDLERS as CONSTANTS
from buildkit.scan.pickle.machine import Handler, PickleMachine, StreamEnd, Watcher, run_machine
from buildkit.scan.pickle.numbers import LONGEST_LINE, read_index
from buildkit.scan.pickle.values import UNKNOWN, ContainerValue, Global, Value
from buildkit.scan.source import ScanSource
from buildkit.scan.windowed_reader import WindowedReader

STOP = 0x2E


def frame(machine: PickleMachine) -> None:
    """FRAME: the length follows of what an unpickler reads ahead."""
    size = machine.reader.number(8)
    machine.enter_frame(machine.reader.offset + size)


def readonly_buffer(machine: PickleMachine) -> None:
    """READONLY_BUFFER: make the top read-only."""
    machine.top()


def proto(machine: PickleMachine) -> None:
    """PROTO: the protocol's number follows."""
    machine.proto = machine.reader.byte()


def mark(machine: PickleMachine) -> None:
    """MARK: begin a group."""
    machine.marks.append(len(machine.stack))


def pop(machine: PickleMachine) -> None:
    """POP: drop the top of the stack, or the mark there."""
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


def pop_mark(machine: PickleMachine) -> None:
    """POP_MARK: drop a group."""
    machine.pop_mark()


def dup(machine: PickleMachine) -> None:
    """DUP: push the top again, the same object."""
    machine.stack.append(machine.top())


def put(machine: PickleMachine, width: int) -> None:
    """PUT, BINPUT, LONG_BINPUT: store the top in the memo."""
    at = machine.reader.number(width) if width else read_index(machine)
    machine.memo[at] = machine.top()


def memoize(machine: PickleMachine) -> None:
    """MEMOIZE: store the top in the memo under the next number."""
    machine.memo[len(machine.memo)] = machine.top()


def get(machine: PickleMachine, width: int) -> None:
    """GET, BINGET, LONG_BINGET: push a value of the memo."""
    at = machine.reader.number(width) if width else read_index(machine)
    if at not in machine.memo:
        machine.note_anomaly("the memo has no such entry")
    machine.stack.append(machine.memo.get(at, UNKNOWN))


def empty(machine: PickleMachine, kind: str) -> None:
    """EMPTY_LIST, EMPTY_DICT, EMPTY_SET: push a new container."""
    machine.made += 1
    machine.stack.append(ContainerValue(kind))


def group(machine: PickleMachine, kind: str) -> None:
    """LIST, DICT, FROZENSET: push a container of a group."""
    machine.made += 1
    made = ContainerValue(kind)
    add_entries(machine, made, machine.pop_mark())
    machine.stack.append(made)


def group_tuple(machine: PickleMachine) -> None:
    """TUPLE: push a tuple of a group."""
    machine.made += 1
    values = machine.pop_mark()
    gather(machine, values)
    machine.stack.append(tuple(values))


def short_tuple(machine: PickleMachine, size: int) -> None:
    """TUPLE1 to TUPLE3: push a tuple of the last ``size`` values."""
    machine.made += 1
    values = [machine.pop() for _ in range(size)]
    gather(machine, values)
    machine.stack.append(tuple(reversed(values)))


def gather(machine: PickleMachine, values: list[Value]) -> None:
    """Tell the watcher of globals among values that are put together."""
    for value in values:
        if type(value) is Global:
            machine.watcher.gathered(value, machine.start)


def add_entries(machine: PickleMachine, target: ContainerValue, values: list[Value]) -> None:
    """Put values into a container of the stream."""
    gather(machine, values)
    target.add(values)
    if target.kind == "list":
        return
    if target.kind == "dict" and len(values) % 2:
        machine.note_anomaly("a key has no value")
    keys: list[Value] = [key for key in (values[::2] if target.kind == "dict" else values) if type(key) is tuple]
    if keys:
        machine.watcher.hashed(keys, machine.start)


def fill(machine: PickleMachine, take: Callable[[PickleMachine], list[Value]]) -> None:
    """APPEND, SETITEM and others: put values into the container below; another object's own method is called."""
    values = take(machine)
    target = machine.top()
    if isinstance(target, ContainerValue):
        add_entries(machine, target, values)
        return
    gather(machine, values)
    keys: list[Value] = [value for value in values if type(value) is tuple]
    if keys:
        machine.watcher.hashed(keys, machine.start)
    machine.watcher.filled(target, values, machine.start)


def pop_value(machine: PickleMachine) -> list[Value]:
    """Pop one value."""
    return [machine.pop()]


def pop_pair(machine: PickleMachine) -> list[Value]:
    """Pop a key and its value."""
    value = machine.pop()
    return [machine.pop(), value]


def global_lines(machine: PickleMachine) -> tuple[str, str]:
    """Read module and name, a line each; an unpickler takes the last byte of an unended line for its end."""
    words = []
    for _ in range(2):
        raw, ended = machine.reader.line(LONGEST_LINE)
        raw = raw if ended else raw[:-1]
        words.append(raw.decode("utf-8", "replace"))
    return words[0], words[1]


def global_(machine: PickleMachine) -> None:
    """GLOBAL: push a global named by lines."""
    machine.fetch(*global_lines(machine))


def stack_global(machine: PickleMachine) -> None:
    """STACK_GLOBAL: push a global named by the stack."""
    name = machine.pop()
    module = machine.pop()
    if isinstance(module, str) and isinstance(name, str):
        machine.fetch(module, name)
    else:
        machine.watcher.unresolved(module, name, machine.start)
        machine.stack.append(UNKNOWN)


def extension(machine: PickleMachine, width: int) -> None:
    """EXT1, EXT2, EXT4: push a global by its number."""
    machine.watcher.extension(machine.reader.number(width), machine.start)
    machine.stack.append(UNKNOWN)


def reduce(machine: PickleMachine) -> None:
    """REDUCE, NEWOBJ: call with arguments; NEWOBJ calls ``callee.__new__``."""
    args = machine.pop()
    if isinstance(args, ContainerValue) and args.kind == "list" and args.whole:
        args = tuple(args.kept)  # which the unpickler in Python unpacks, too
    machine.call(machine.pop(), args)


def newobj_ex(machine: PickleMachine) -> None:
    """NEWOBJ_EX: call with positional and keyword arguments."""
    names = machine.pop()
    args = machine.pop()
    plain = isinstance(names, ContainerValue) and names.kind == "dict" and not names.count
    if isinstance(args, tuple) and not plain:
        args = (*args, names)
    machine.call(machine.pop(), args)


def inst(machine: PickleMachine) -> None:
    """INST: call a global named by lines with a group."""
    machine.fetch(*global_lines(machine))
    callee = machine.stack.pop()
    args = machine.pop_mark()
    gather(machine, args)
    machine.call(callee, tuple(args))


def obj(machine: PickleMachine) -> None:
    """OBJ: call the first value of a group with the others."""
    values = machine.pop_mark()
    if not values:
        machine.note_anomaly("there is nothing to call")
        values = [UNKNOWN]
    gather(machine, values[1:])
    machine.call(values[0], tuple(values[1:]))


def build(machine: PickleMachine) -> None:
    """BUILD: set state."""
    state = machine.pop()
    machine.watcher.built(machine, machine.top(), state, machine.start)


def persid(machine: PickleMachine) -> None:
    """PERSID: load a persistent id that is a line."""
    raw, _ = machine.reader.line(LONGEST_LINE)
    machine.stack.append(machine.watcher.persistent(raw.decode("utf-8", "replace"), machine.start))


def binpersid(machine: PickleMachine) -> None:
    """BINPERSID: load a persistent id from the stack."""
    machine.stack.append(machine.watcher.persistent(machine.pop(), machine.start))


HANDLERS: dict[bytes, Handler] = CONSTANTS | {
    b"\x80": proto,
    b"\x95": frame,
    b"\x98": readonly_buffer,
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
    """Follow the stream at ``start``; ``operate`` counts its opcodes.

    Raises:
        LimitError: a limit ended it.
    """
    return run_machine(PickleMachine(WindowedReader(source, start), watcher, operate, limits.memo), TABLE, STOP)
