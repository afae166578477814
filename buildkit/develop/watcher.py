"""Watching folders of a project, in threads that feed a queue."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from buildkit.develop.change_queue import ChangeQueue
from buildkit.tools.file_watch import watch_files


@contextmanager
def watching(folder: Path, deep: Iterable[str], shallow: Iterable[str] = ()) -> Iterator[ChangeQueue]:
    """Yield a queue of paths, relative to ``folder``, that change below ``deep`` or directly in ``shallow``.

    Both are relative to ``folder``. What does not exist is not watched: watch the folder that it will be in.
    """
    queue, root = ChangeQueue(), os.path.realpath(folder)
    groups = ((_existing(folder, deep), True), (_existing(folder, shallow), False))
    watches = [_FolderWatch(root, paths, recursive=recursive, queue=queue) for paths, recursive in groups if paths]
    for watch in watches:
        watch.start()
    try:
        for watch in watches:
            watch.ready.wait()
        yield queue
    finally:
        for watch in watches:
            watch.end()


def _existing(folder: Path, names: Iterable[str]) -> list[Path]:
    paths = {Path(os.path.realpath(folder / name)) for name in names}
    return sorted(path for path in paths if path.exists())


class _FolderWatch(threading.Thread):
    """Feeds a queue with what changes below some paths; ``ready`` is set once nothing is missed."""

    def __init__(self, root: str, paths: Sequence[Path], *, recursive: bool, queue: ChangeQueue) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self._stop_asked = threading.Event()
        self._root = root
        self._paths = paths
        self._recursive = recursive
        self._queue = queue

    def run(self) -> None:
        """Watch until ``end`` is called; an error closes the queue."""
        try:
            for changes in watch_files(self._paths, self._stop_asked, recursive=self._recursive):
                self.ready.set()
                self._queue.add(os.path.relpath(path, self._root) for path in changes)
        except BaseException as error:  # noqa: BLE001 - whoever takes from the queue raises it
            self._queue.close(error)
        finally:
            self.ready.set()

    def end(self) -> None:
        """Stop watching, and wait for that."""
        self._stop_asked.set()
        self.join()
