"""Places, bytes and the queue, with a clock of their own."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from admission import FEWEST, LONGEST, Admission, Limits
from problems import Problem


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock | None = None, **changed: float) -> Admission:
    given = {"workers": 2, "requests": 4, "bytes": 100, "seconds": 10.0, **changed}
    limits = Limits(
        workers=int(given["workers"]),
        requests=int(given["requests"]),
        bytes=int(given["bytes"]),
        seconds=given["seconds"],
    )
    return Admission(limits, clock or Clock())


def refuse(admission: Admission, size: int = 1) -> Problem:
    with pytest.raises(Problem) as caught, admission.admit(size):
        pytest.fail("it was admitted")
    assert (caught.value.status, caught.value.code) == (503, "busy")
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= LONGEST
    return caught.value


def learn(admission: Admission, clock: Clock, seconds: float) -> None:
    async def work() -> None:
        async with admission.worker():
            clock.now += seconds

    asyncio.run(work())


def test_so_many_requests_are_admitted_and_places_become_free_again() -> None:
    admission = make()
    with ExitStack() as places:
        for _ in range(4):
            places.enter_context(admission.admit(1))
        refuse(admission)
    assert admission.inside == 0
    with admission.admit(1):
        assert admission.inside == 1


def test_bodies_are_admitted_while_there_is_room_for_their_bytes() -> None:
    admission = make()
    with admission.admit(60):
        refuse(admission, 41)
        with admission.admit(40):
            refuse(admission)
    with admission.admit(100):
        pass


def test_a_refused_request_holds_nothing() -> None:
    admission = make()
    for _ in range(3):
        refuse(admission, 101)
    with admission.admit(100):
        assert admission.inside == 1


def test_who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    clock = Clock()
    admission = make(clock, requests=100, seconds=10.0)
    for _ in range(FEWEST):
        learn(admission, clock, 4.0)
    with ExitStack() as places:
        for _ in range(7):  # the seventh waits for five others, two at a time: 10 s
            places.enter_context(admission.admit(1))
        assert refuse(admission).retry_after == 2  # the eighth would wait for 12
    with admission.admit(1):  # nobody is ahead any more
        pass


def test_the_mean_follows_what_requests_take() -> None:
    clock = Clock()
    admission = make(clock, workers=1, requests=100, seconds=1.0)
    for _ in range(FEWEST):
        learn(admission, clock, 100.0)
    with admission.admit(1):
        assert refuse(admission).retry_after == LONGEST
    for _ in range(600):
        learn(admission, clock, 0.01)
    with admission.admit(1), admission.admit(1):
        pass


def test_one_slow_request_among_many_refuses_nobody() -> None:
    clock = Clock()
    admission = make(clock, requests=100, seconds=10.0)
    for _ in range(60):
        learn(admission, clock, 0.01)
    learn(admission, clock, 8.0)
    with ExitStack() as places:
        for _ in range(50):
            places.enter_context(admission.admit(1))


def test_the_first_requests_tell_nothing_of_the_next() -> None:
    clock = Clock()
    admission = make(clock, requests=100, seconds=10.0)
    for _ in range(FEWEST - 1):
        learn(admission, clock, 100.0)
    with ExitStack() as places:
        for _ in range(50):
            places.enter_context(admission.admit(1))


def test_workers_are_given_in_order_of_arrival_and_never_more_than_there_are() -> None:
    async def scenario() -> None:
        admission, order = make(workers=2), list[int]()
        running = highest = 0

        async def work(number: int) -> None:
            nonlocal running, highest
            async with admission.worker():
                order.append(number)
                running += 1
                highest = max(highest, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(work(number) for number in range(20)))
        assert order == list(range(20))
        assert highest == 2
        assert admission.waiting == 0

    asyncio.run(scenario())


def test_who_has_waited_too_long_is_refused_and_leaves_the_queue() -> None:
    async def scenario() -> None:
        admission = make(workers=1, seconds=0.05)
        async with admission.worker():
            with pytest.raises(Problem) as caught:
                async with admission.worker():
                    pytest.fail("there was a second worker")
            assert (caught.value.status, caught.value.retry_after) == (503, 1)
            assert admission.waiting == 0
        async with admission.worker():  # and no worker was lost
            pass

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_in_the_queue_takes_no_worker() -> None:
    async def scenario() -> None:
        admission = make(workers=1)

        async def work() -> None:
            async with admission.worker():
                pytest.fail("it was cancelled")

        async with admission.worker():
            waiting = asyncio.create_task(work())
            await asyncio.sleep(0)
            assert admission.waiting == 1
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert admission.waiting == 0
        async with admission.worker():
            pass

    asyncio.run(scenario())
