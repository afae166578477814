"""The lazy decorator gives classes that behave as those of the standard library."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from dataclasses import dataclass as of_library
from typing import Any

import pytest

from buildkit import lazy_dataclass

Decorator = Callable[..., Any]


def make(dataclass: Decorator) -> tuple[type, ...]:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Value:
        """A value."""

        name: str
        size: int = 0
        parts: tuple[int, ...] = field(default_factory=tuple)
        seen: list[int] = field(default_factory=list, repr=False, compare=False)
        double: int = field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "double", 2 * self.size)

        @property
        def half(self) -> int:
            return self.size // 2

    @dataclass(frozen=True, slots=True)
    class Base:
        """A base."""

        one: int
        two: str = "2"

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        """One more field."""

        three: int = 3

    @dataclass(slots=True)
    class Open:
        """It can be changed."""

        count: int
        items: list[int] = field(default_factory=list)
        left: int = field(default=7, init=False)

    @dataclass(frozen=True)
    class Plain:
        """Without slots."""

        a: int = 1

        def __hash__(self) -> int:
            return 17

        def __repr__(self) -> str:
            return "plain"

    @dataclass(frozen=True, slots=True)
    class Empty:
        """Nothing."""

    return Value, Base, Derived, Open, Plain, Empty


OURS, THEIRS = make(lazy_dataclass.dataclass), make(of_library)
Value, Base, Derived, Open, Plain, Empty = OURS
CALLS: tuple[tuple[int, tuple[Any, ...], dict[str, Any]], ...] = (
    (0, (), {"name": "a"}), (0, (), {"name": "a", "size": 4, "parts": (1,)}), (0, ("a",), {}), (0, (), {}),
    (0, (), {"name": "a", "double": 1}), (1, (1,), {}), (1, (1, "x"), {}), (1, (), {"one": 1}), (1, (1, 2, 3), {}),
    (2, (1, "x", 5), {}), (2, (1,), {"three": 4}), (3, (1,), {}), (3, (1, [2]), {}), (3, (1, [2], 3), {}),
    (4, (), {}), (4, (2,), {}), (5, (), {}), (5, (1,), {}),
)  # fmt: skip


def describe(kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    try:
        made = kind(*args, **kwargs)
    except TypeError:
        return TypeError
    same = kind(*args, **kwargs)
    other = [getattr(made, one.name) for one in fields(made)]
    is_hashed = kind.__hash__ is not None
    shown = repr(made).rpartition("<locals>.")[2]
    return other, asdict(made), shown, made == same, made == 3, is_hashed and hash(made) == hash(same)


@pytest.mark.parametrize("call", CALLS)
def test_values_are_those_of_the_library(call: tuple[int, tuple[Any, ...], dict[str, Any]]) -> None:
    kind, args, kwargs = call
    assert describe(OURS[kind], args, kwargs) == describe(THEIRS[kind], args, kwargs)


def test_frozen_values_do_not_change_and_open_ones_do() -> None:
    for value in (Value(name="a"), Derived(1), Plain()):
        with pytest.raises(FrozenInstanceError):
            value.name = "b"
        with pytest.raises(FrozenInstanceError):
            del value.name
    opened = Open(1)
    opened.count = 2
    assert (opened.count, opened.left) == (2, 7)
    assert not hasattr(Value(name="a"), "__dict__")
    with pytest.raises(TypeError):
        hash(opened)


def test_values_are_equal_only_to_their_own_class() -> None:
    assert Base(1, "2") != Derived(1, "2")
    assert Value(name="a", seen=[1]) == Value(name="a", seen=[2])
    assert Open(1) == Open(1) != Open(1, [1])
    assert (hash(Plain()), repr(Plain())) == (17, "plain")
    assert len({Value(name="a"), Value(name="a"), Value(name="b"), Empty(), Empty()}) == 3


def test_replace_copy_and_match_work() -> None:
    value = Value(name="a", size=1)
    assert replace(value, size=2) == Value(name="a", size=2)
    assert copy.deepcopy(value) == value
    match Derived(1, "x"):
        case Derived(one, two):
            assert (one, two) == (1, "x")


@lazy_dataclass.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A value at the top of a module, which can be pickled."""

    name: str
    inner: tuple[int, ...] = ()


def test_value_can_be_pickled_before_any_is_made() -> None:
    kept = pickle.dumps(Kept(name="a", inner=(1,)))
    assert pickle.loads(kept) == Kept(name="a", inner=(1,))
