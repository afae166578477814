"""Changes are collected, none is lost, and one action runs at a time."""

from __future__ import annotations

import threading

import pytest

from buildkit.develop.change_queue import ChangeQueue, SingleRunner
from buildkit.errors import BuildError


def test_queue_gives_ten_thousand_changes_as_one_batch() -> None:
    queue = ChangeQueue()
    for number in range(10_000):
        queue.add([f"file{number}"])
    taken = queue.take()
    assert taken is not None
    assert len(taken) == 10_000
    assert queue.take(timeout=0) == frozenset()


def test_queue_ends_with_none_or_with_the_error_of_its_source() -> None:
    queue = ChangeQueue()
    queue.close()
    assert queue.take() is None
    failed = ChangeQueue()
    failed.close(BuildError("too many folders"))
    with pytest.raises(BuildError, match="too many folders"):
        failed.take()


def test_runner_loses_no_change_that_comes_during_an_action_and_runs_once_more() -> None:
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    runs: list[frozenset[str]] = []

    def action(causes: frozenset[str]) -> None:
        runs.append(causes)
        begun.release()
        go_on.acquire()

    runner = SingleRunner(action)
    runner.request(["a"])
    begun.acquire()
    for name in ("b", "c", "d"):
        runner.request([name])
    go_on.release()
    begun.acquire()
    go_on.release()
    runner.close()
    assert runs == [frozenset("a"), frozenset("bcd")]


def test_runner_lets_a_running_action_end_when_it_is_closed() -> None:
    begun, ended = threading.Event(), threading.Event()

    def action(_causes: frozenset[str]) -> None:
        begun.set()
        ended.wait(0.05)
        ended.set()

    runner = SingleRunner(action)
    runner.request(["a"])
    begun.wait()
    runner.close()
    assert ended.is_set()
