"""Runs an action in a thread while a block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from buildkit.worker_pool import WorkerPool


@contextmanager
def run_concurrently(action: Callable[[], None]) -> Iterator[Future[None]]:
    """Run ``action`` in a thread while the block runs, and wait for it.

    Raises what the action raises, unless the block raises something itself.
    """
    with WorkerPool(1) as pool:
        running = pool.submit(action)
        yield running
    running.result()
