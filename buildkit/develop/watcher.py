"""Watching folders of a project, in threads that feed a queue."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from buildkit.develop.change_queue import ChangeQueue
from buildkit.errors import BuildkitError
from buildkit.tools.file_watch import watch_files


@contextmanager
def watching(folder: Path, deep: Iterable[str], shallow: Iterable[str] = ()) -> Iterator[ChangeQueue]:
    """Yield a queue of paths, relative to ``folder``, that change below ``deep`` or directly in ``shallow``.

    Both are relative to ``folder``. What does not exist is not watched: watch the folder that it will be in.
    """
    queue, stop = ChangeQueue(), threading.Event()
    root = os.path.realpath(folder)
    groups = ((_existing(folder, deep), True), (_existing(folder, shallow), False))
    threads = [
        threading.Thread(target=_feed, args=(root, paths, recursive, queue, stop), daemon=True)
        for paths, recursive in groups
        if paths
    ]
    for thread in threads:
        thread.start()
    try:
        yield queue
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _existing(folder: Path, names: Iterable[str]) -> list[Path]:
    paths = {Path(os.path.realpath(folder / name)) for name in names}
    return sorted(path for path in paths if path.exists())


def _feed(root: str, paths: Sequence[Path], recursive: bool, queue: ChangeQueue, stop: threading.Event) -> None:
    try:
        for changes in watch_files(paths, stop, recursive=recursive):
            queue.add(os.path.relpath(path, root) for path in changes)
    except BuildkitError as error:
        queue.close(error)
