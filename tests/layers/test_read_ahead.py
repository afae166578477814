"""An iterator is read in a thread: the same items, the same errors, and nothing runs on after the block."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from buildkit.layers.tar.read_ahead import read_ahead
from tests.waiting import wait_until


def count(most: int, taken: list[int], failure: BaseException | None = None) -> Iterator[int]:
    for number in range(most):
        taken.append(threading.get_ident())
        yield number
    if failure:
        raise failure


def test_items_come_in_order_from_another_thread() -> None:
    taken: list[int] = []
    with read_ahead(count(50, taken)) as items:
        assert list(items) == list(range(50))
    assert {threading.get_ident()}.isdisjoint(taken)


def test_few_items_are_taken_ahead() -> None:
    taken: list[int] = []
    with read_ahead(count(50, taken)) as items:
        assert next(items) == 0
        assert wait_until(lambda: len(taken) == 4)  # one was given, two wait, and one more is at hand
        assert next(items) == 1
        assert wait_until(lambda: len(taken) == 5)


def test_what_the_iterator_raises_comes_in_its_place() -> None:
    with read_ahead(count(3, [], ValueError("damaged"))) as items:
        assert [next(items), next(items), next(items)] == [0, 1, 2]
        with pytest.raises(ValueError, match="damaged"):
            next(items)


@pytest.mark.parametrize("wanted", [0, 1, 5])
def test_thread_ends_with_the_block(wanted: int) -> None:
    taken: list[int] = []
    with pytest.raises(ZeroDivisionError), read_ahead(count(10**9, taken)) as items:  # noqa: PT012
        for _ in range(wanted):
            next(items)
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
    assert len(taken) <= wanted + 5
