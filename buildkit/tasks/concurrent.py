"""Runs an action in a thread while a block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def run_concurrently(action: Callable[[], None]) -> Iterator[Future[None]]:
    """Run ``action`` in a thread while the block runs, and wait for it.

    Raises what the action raises, unless the block raises something itself.
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(action)
        yield running
    running.result()
