"""Calls of allowed functions that exhaust memory or time, whatever the size of the file."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from buildkit.scan.limits import LimitError
from buildkit.scan.pickle.helpers import name_of
from buildkit.scan.pickle.values import UNKNOWN, ByteString, CallResult, ContainerValue, LongText, Value

LARGEST = 2**30  # bytes or items, of all calls of a pickle together
LARGEST_RANGE = 2**28  # numbers of one range
LARGEST_EXPANSION = 2**24  # values that one argument holds, if those that are shared count each time
LONGEST_NUMBER = 4300  # digits, which is Python's own limit
HIGHEST_EXPONENT = 10_000
WALKED = 5_000_000  # nested values of arguments and keys that are followed in one pickle
LONGEST_SHAPE = 64
EXPONENT = re.compile(r"[eE]([+-]?\d+)")
NUMBERS = frozenset({"builtins.int", "fractions.Fraction", "decimal.Decimal", "_decimal.Decimal"})
MAKES_NUMBER = NUMBERS | {"builtins.float", "builtins.bool"}
MAKES_BYTES = frozenset({"_codecs.encode", "builtins.bytes", "builtins.bytearray"})
NETWORKS = frozenset({"ipaddress.IPv4Network", "ipaddress.IPv6Network"})
BUFFERS = frozenset({"builtins.bytearray", "builtins.bytes"})
ARRAYS = re.compile(
    r"numpy\.(ndarray|matrix|recarray|record|void|bytes_|string_|str_|unicode_)"
    r"|numpy\.(_?core\.records|rec|matrixlib\.defmatrix)\.\w+|numpy\._?core\.multiarray\._reconstruct"
    r"|numpy\.ma\.core\._mareconstruct|torch(\.\w+)*\.\w*(Storage|Tensor)|torch\.nn\..*|torch\._utils\._rebuild_qtensor"
    r"|scipy\.sparse\..*"
)


@dataclass(slots=True)
class Spending:
    """What the calls of one pickle spend: bytes or items, and the nested values that were followed to find out."""

    total: int = field(default=0)
    walked: int = field(default=0)

    def call(self, name: tuple[str, str], args: Value) -> str:
        """Return how a call of an allowed function exhausts memory or time; empty if it does not.

        Raises:
            LimitError: the arguments of the pickle's calls are too many to follow.
        """
        path = f"{name[0]}.{name[1]}"
        arguments = args if isinstance(args, tuple) else (args,)
        if path == "builtins.range":
            return check_range(arguments)
        if path in NUMBERS:
            return check_number(path, arguments)
        size = sum(count_lazy_items(value) for value in arguments)
        if path in BUFFERS and arguments and not isinstance(arguments[0], str | ByteString | LongText):
            if arguments[0] is UNKNOWN or not is_known_size(arguments[0]):
                return "it allocates as much as the file computes"
            size += count_items(arguments[:1])
        elif ARRAYS.fullmatch(path):
            size += count_items(arguments)
        self.total += size
        if self.total > LARGEST:
            return "the calls of this pickle allocate or go through more than a billion items"
        if path == "builtins.str" and arguments and arguments[0] is UNKNOWN:
            return "it formats what is too large to follow"
        return "an argument shares its parts too often" if self.expands(arguments) else ""

    def expands(self, value: Value) -> bool:
        """Return whether ``value`` holds very many values, if those that it shares count each time."""
        if not has_nested(value):
            return False
        sizes: dict[int, int] = {}  # 0 while its parts are measured: what contains itself is not followed again
        todo = [value]
        while todo:
            current = todo[-1]
            if sizes.get(id(current)):
                todo.pop()
                continue
            parts = list_parts(current)
            inner = [part for part in parts if isinstance(part, tuple | ContainerValue)]
            self.walked += 1 + len(inner)
            if self.walked > WALKED:
                raise LimitError(f"more than {WALKED} nested values are in a pickle's arguments and keys")
            if id(current) not in sizes:
                sizes[id(current)] = 0
                todo += [part for part in inner if id(part) not in sizes]
            else:
                size = 1 + len(parts) + sum(sizes.get(id(part), 0) for part in inner)
                sizes[id(current)] = min(size, LARGEST_EXPANSION + 1)
        return sizes[id(value)] > LARGEST_EXPANSION


def list_parts(value: Value) -> tuple[Value, ...] | list[Value]:
    """Return the parts of a tuple, or those of a container that were kept."""
    return value.kept if isinstance(value, ContainerValue) else value if isinstance(value, tuple) else ()


def has_nested(value: Value) -> bool:
    """Return whether a part of ``value`` has parts itself."""
    return any(isinstance(part, tuple | ContainerValue) for part in list_parts(value))


def list_integers(values: tuple[Value, ...]) -> Iterator[int]:
    """Yield the integers among values, and those in tuples and keyword arguments among them."""
    for value in values:
        if isinstance(value, int):
            yield value
        elif isinstance(value, tuple | ContainerValue):
            yield from (part for part in list_parts(value)[:LONGEST_SHAPE] if isinstance(part, int))


def count_items(values: tuple[Value, ...]) -> int:
    """Return the product of the integers in ``values``, which are sides of a shape; 0 if there are none."""
    sides = [min(abs(side), LARGEST + 1) for side in list_integers(values[:LONGEST_SHAPE])]
    return math.prod(sides) if sides else 0


def is_known_size(value: Value) -> bool:
    """Return whether what ``bytes`` or ``bytearray`` are given says how much they allocate."""
    if isinstance(value, CallResult):
        return ".".join(name_of(value.callee)) in MAKES_BYTES or count_lazy_items(value) > 0
    return True


def count_lazy_items(value: Value) -> int:
    """Return how many items a range or network gives to what goes through it; 0 for other values."""
    while isinstance(value, CallResult) and name_of(value.callee) == ("builtins", "reversed"):
        value = value.args[0] if isinstance(value.args, tuple) and value.args else UNKNOWN
    if not isinstance(value, CallResult) or not isinstance(value.args, tuple):
        return 0
    path = ".".join(name_of(value.callee))
    if path == "builtins.range":
        return LARGEST + 1 if check_range(value.args) else measure_range(value.args)
    return count_addresses(value.args) if path in NETWORKS else 0


def count_addresses(args: tuple[Value, ...]) -> int:
    """Return how many addresses a network has; very many if it cannot be known."""
    try:
        return ipaddress.ip_network(args[0]).num_addresses if isinstance(args[0], str) else LARGEST + 1
    except (ValueError, IndexError):
        return LARGEST + 1


def measure_range(args: tuple[Value, ...]) -> int:
    """Return the length of a range of constants."""
    start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    if not isinstance(start, int) or not isinstance(stop, int) or not isinstance(step, int) or not step:
        return 0
    return max(0, -((start - stop) // step))


def check_range(args: tuple[Value, ...]) -> str:
    """Return why going through a range never ends; empty if it does."""
    if not 1 <= len(args) <= 3 or not all(isinstance(one, int) for one in args):
        return "it makes a range of a computed length"
    length = measure_range(args)
    return f"whatever goes through its {length} numbers exhausts memory" if length > LARGEST_RANGE else ""


def check_number(path: str, args: tuple[Value, ...]) -> str:
    """Return why making a number takes too much memory or time; empty if it does not."""
    for value in args[:4]:
        if value is UNKNOWN or isinstance(value, LongText) or (isinstance(value, str) and len(value) > LONGEST_NUMBER):
            return "it makes a number of too many digits"
        if isinstance(value, CallResult) and ".".join(name_of(value.callee)) not in MAKES_NUMBER:
            return "it makes a number of what the file computes"
        powers = [int(one) for one in EXPONENT.findall(value)] if isinstance(value, str) else []
        if isinstance(value, tuple) and path.endswith("Decimal") and isinstance(value[-1:], tuple):
            powers += [part for part in value[-1:] if isinstance(part, int)]
        if path != "builtins.int" and any(abs(power) > HIGHEST_EXPONENT for power in powers):
            return "its exponent makes a number of very many digits"
    return ""
