"""Verify the trees of the image store: contents, modes, owners, times, and that nothing was added.

A damaged tree is not removed, as images and containers have its files, but no build believes it any more: the next one
that needs the layer puts a new tree in its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from buildkit.cache_admin.store_garbage import tree_path
from buildkit.errors import Interrupted
from buildkit.events import Emit, StepFinished, StepStarted
from buildkit.imagestore.image_store import ImageStore

TREES_STEP = "layers in the image store"


class TreeVerifier:
    """Reads the trees of a store (None: there are none), and distrusts damaged ones.

    ``images`` are those that were removed, because their records were damaged. ``damaged`` maps the paths of trees, as
    inventories name them, to what was altered; ``count`` of ``of`` trees were read, ``size`` bytes. ``progress`` is
    called with the bytes so far.
    """

    def __init__(self, store: ImageStore | None, progress: Callable[[int], None], stop: threading.Event) -> None:
        self.damaged: dict[str, str] = {}
        self.images: tuple[str, ...] = ()
        self.count = 0
        self.size = 0
        self._store = store
        self._progress = progress
        self._stop = stop
        self._trees = sorted(store.trees.all()) if store else []
        self.of = len(self._trees)

    def verify(self, emit: Emit) -> None:
        """Read all trees; one that vanishes meanwhile is skipped. Raises Interrupted once ``stop`` is set."""
        store, began = self._store, time.monotonic()
        if store is None:
            return
        with store.explaining():
            self.images = store.drop_damaged_images()
        if not self._trees:
            return
        sizes = {diff_id: store.size_of(diff_id) for diff_id in self._trees}
        emit(StepStarted(step=TREES_STEP, phase="verify", total=sum(sizes.values())))
        for diff_id in self._trees:
            if self._stop.is_set():
                raise Interrupted("interrupted")
            with suppress(FileNotFoundError):
                if altered := store.find_alteration(diff_id):
                    self.damaged[tree_path(diff_id)] = altered
                    with store.explaining():
                        store.trees.distrust(diff_id)
            self.count += 1
            self.size += sizes[diff_id]
            self._progress(self.size)
        emit(StepFinished(step=TREES_STEP, phase="verify", seconds=time.monotonic() - began, size=self.size))
