"""Two things at once, where neither needs the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def run_concurrently(action: Callable[[], None]) -> Iterator[Future[None]]:
    """Do ``action`` in a thread while the block runs, and wait for it; raises what it does, unless the block does."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(action)
        yield doing
    doing.result()
