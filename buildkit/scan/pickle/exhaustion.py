"""Calls of allowed functions that exhaust memory or time, whatever the size of the file."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator
from dataclasses import field
from functools import lru_cache

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.limits import LimitError
from buildkit.scan.pickle.helpers import name_of
from buildkit.scan.pickle.values import UNKNOWN, CallResult, ContainerValue, LongText, Value

LARGEST = 2**30  # bytes or items, of all calls of a pickle together
LARGEST_RANGE = 2**28  # numbers of one range
LARGEST_EXPANSION = 2**24  # values that one argument holds, if those that are shared count each time
LONGEST_NUMBER = 4300  # digits, which is Python's own limit
HIGHEST_EXPONENT = 10_000
WALKED = 20_000_000  # nested values of arguments and keys that are followed in one pickle
FEW = 256  # values that are not counted
LONGEST_SHAPE = 64
EXPONENT = re.compile(r"[eE]([+-]?\d[\d_]*)")
NUMBERS = frozenset({"builtins.int", "fractions.Fraction", "decimal.Decimal", "_decimal.Decimal"})
MAKES_NUMBER = NUMBERS | {"builtins.float", "builtins.bool"}
MAKES_BYTES = frozenset({"_codecs.encode", "builtins.bytes", "builtins.bytearray"})
COPIES = frozenset(
    f"builtins.{name}" for name in ("list", "tuple", "set", "frozenset", "reversed", "bytes", "bytearray")
) | {f"collections.{name}" for name in ("deque", "UserList", "Counter", "OrderedDict")}
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
        if path == "builtins.str" and arguments and arguments[0] is UNKNOWN:
            return "it formats what is too large to follow"
        if path in BUFFERS and arguments and not is_known_size(arguments[0]):
            return "it allocates as much as the file computes"
        if self.expands(arguments):
            return "an argument shares its parts too often"
        self.total += sum(count_held_items(value) for value in arguments if isinstance(value, CallResult))
        if path in BUFFERS or is_array(path):
            self.total += count_items(arguments if path not in BUFFERS else arguments[:1])
        if self.total > LARGEST:
            return "the calls of this pickle allocate or go through more than a billion items"
        return ""

    def walk(self, count: int) -> None:
        """Count nested values that are followed, unless they are few.

        Raises:
            LimitError: they are too many.
        """
        self.walked += count if count > FEW else 0
        if self.walked > WALKED:
            raise LimitError(f"more than {WALKED} nested values are in a pickle's arguments and keys")

    def expands(self, value: Value) -> bool:
        """Return whether ``value`` holds very many values, if those that it shares count each time.

        Raises:
            LimitError: the values of the pickle's calls and keys are too many to follow.
        """
        self.walk(len(list_parts(value)))
        inner = list_nested(value)
        if not inner:
            return False
        longest = max(len(list_parts(part)) for part in inner)
        self.walk(longest * len(inner))
        if longest * len(inner) <= LARGEST_EXPANSION and not any(list_nested(part) for part in inner):
            return False
        return self.measure(value) > LARGEST_EXPANSION

    def measure(self, value: Value) -> int:
        """Return how many values ``value`` holds, shared ones each time, or a number beyond what is allowed."""
        sizes: dict[int, int] = {}  # 0 while its parts are measured: what contains itself is not followed again
        todo = [value]
        while todo:
            current = todo[-1]
            if sizes.get(id(current)):
                todo.pop()
                continue
            inner = list_nested(current)
            self.walked += 1
            self.walk(len(list_parts(current)))
            if id(current) not in sizes:
                sizes[id(current)] = 0
                todo += [part for part in inner if id(part) not in sizes]
            else:
                size = 1 + len(list_parts(current)) + sum(sizes.get(id(part), 0) for part in inner)
                sizes[id(current)] = min(size, LARGEST_EXPANSION + 1)
        return sizes[id(value)]


@lru_cache(4096)
def is_array(path: str) -> bool:
    """Return whether calling ``path`` with numbers allocates an array of that shape."""
    return ARRAYS.fullmatch(path) is not None


def list_parts(value: Value) -> tuple[Value, ...] | list[Value]:
    """Return the parts of a tuple, or those of a container that were kept."""
    return value.kept if isinstance(value, ContainerValue) else value if isinstance(value, tuple) else ()


def list_nested(value: Value) -> list[Value]:
    """Return the parts of ``value`` that have parts themselves."""
    return [part for part in list_parts(value) if isinstance(part, tuple | ContainerValue)]


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
        return ".".join(name_of(value.callee)) in MAKES_BYTES or count_held_items(value) > 0
    return value is not UNKNOWN


def count_held_items(value: Value) -> int:
    """Return how many items the result of a call gives to what goes through it; 0 if no more than the file holds."""
    for _ in range(LONGEST_SHAPE):
        if not isinstance(value, CallResult) or not isinstance(value.args, tuple) or not value.args:
            return 0
        path = ".".join(name_of(value.callee))
        if path == "builtins.range":
            return LARGEST + 1 if check_range(value.args) else measure_range(value.args)
        if path in NETWORKS:
            return count_addresses(value.args)
        if path in BUFFERS and isinstance(value.args[0], int):
            return value.args[0]
        if is_array(path):
            return count_items(value.args)
        if path not in COPIES:
            return 0
        value = value.args[0]
    return LARGEST + 1


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
