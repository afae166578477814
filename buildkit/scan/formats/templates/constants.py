"""Evaluate operators, methods and filters of constants, in Jinja's sandbox and within limits."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from jinja2 import Environment, nodes

from buildkit.scan.formats.templates.values import UnfollowedError, check_count, check_widths

# they depend on chance, are slow, or are replaced by loaders
_UNFOLLOWED = frozenset({"random", "urlize", "pprint", "xmlattr", "forceescape", "tojson"})
_SAME = frozenset({"list", "reverse", "sort", "unique"})  # filters that keep the length of a range
_SIMPLE: Mapping[str, Callable[[object, object], object]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
}


@cache
def make_constants(environment: Environment) -> Constants:
    """Return the operations, with the filters of an environment."""
    return Constants(environment)


class Constants:
    """Operations on constants; each raises an error of ``values.ERRORS`` where rendering would."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._context = environment.from_string("").new_context()

    def binary(self, kind: str, left: object, right: object) -> object:
        """Return ``left OPERATOR right``; ``kind`` is the class of Jinja's node.

        Raises:
            UnfollowedError: the result is too large.
        """
        if kind == "Mul":
            for number, other in ((left, right), (right, left)):
                check_count(number, len(other) if isinstance(other, str | list | tuple) else 0)
            return operator.mul(left, right)
        if kind == "Pow":
            check_count(right, max(left.bit_length() if isinstance(left, int) else 1, 1) // 8)
            return operator.pow(left, right)
        if kind == "Mod":
            check_widths(left)
            return operator.mod(left, right)
        return _SIMPLE[kind](left, right)

    def item(self, container: object, key: object) -> object:
        """Return ``container[key]`` as Jinja looks it up."""
        if isinstance(container, range):
            raise UnfollowedError
        return self._environment.getitem(container, key)

    def method(self, owner: object, name: str, args: Sequence[object], keywords: Mapping[str, object]) -> object:
        """Return ``owner.name(...)``.

        Raises:
            UnfollowedError: the result may be too large.
        """
        if not isinstance(owner, str | int | float | list | tuple | dict):
            raise UnfollowedError
        check_widths(owner)
        _check_counts((*args, *keywords.values()))
        function = self._environment.getattr(owner, name)
        return self._context.call(function, *args, **keywords)

    def filtered(self, name: str, value: object, args: Sequence[object], keywords: Mapping[str, object]) -> object:
        """Return ``value|name(...)``.

        Raises:
            UnfollowedError: the filter is unknown, or the result may be too large.
        """
        if name in _UNFOLLOWED or name not in self._environment.filters:
            raise UnfollowedError
        if isinstance(value, range) and name in _SAME:
            return value
        check_widths(value)
        _check_counts((*args, *keywords.values(), *([value] if isinstance(value, range) else ())))
        evaluation = nodes.EvalContext(self._environment)
        return self._environment.call_filter(name, value, args, keywords, context=self._context, eval_ctx=evaluation)


def size_of(kind: str, left: object, right: object) -> float:
    """Return how large ``left OPERATOR right`` is, in characters, elements or digits; 0 if that does not matter."""
    counts = [value for value in (left, right) if isinstance(value, int | float)]
    sizes = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
    if kind == "Mul" and counts and sizes:
        return float(min(math.prod([*counts, *sizes]), 10**300))
    if kind == "Pow" and len(counts) == 2 and min(counts) > 0:
        return min(counts[1], 10**300) * max(math.log10(counts[0]), 1)
    return 0


def _check_counts(values: Sequence[object]) -> None:
    for value in values:
        check_count(value)
        check_widths(value)
