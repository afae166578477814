"""Read an iterator in a thread, a little ahead of whoever wants its items."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST = 2  # items, of about a mebibyte in tars


class _LastItem:
    """What comes after the last item: the error of the iterator, if it raised one."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextmanager
def read_ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Yield the same items, each taken up to two ahead by a thread, which ends with the block.

    What ``items`` raises is raised in its place.
    """
    reader = _Reader(items)
    thread = threading.Thread(target=reader.run, name="ahead", daemon=True)
    thread.start()
    try:
        yield reader.items()
    finally:
        reader.stop()
        thread.join()


class _Reader(Generic[T]):
    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._taken: Queue[T | _LastItem] = Queue(_MOST)
        self._stopped = False

    def run(self) -> None:
        """Take items until there are no more, or nobody wants more."""
        error: BaseException | None = None
        try:
            for item in self._items:
                if self._stopped:
                    return
                self._taken.put(item)
        except BaseException as raised:  # noqa: BLE001 - raised again where the item is wanted
            error = raised
        self._taken.put(_LastItem(error))

    def items(self) -> Iterator[T]:
        """Yield what was taken."""
        while not isinstance(item := self._taken.get(), _LastItem):
            yield item
        if item.error is not None:
            raise item.error

    def stop(self) -> None:
        """Take nothing more."""
        self._stopped = True
        while not self._taken.empty():
            self._taken.get_nowait()
