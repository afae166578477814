"""One start of an environment at a time: two would give one name to two containers."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from buildkit.events import Emit, Note
from buildkit.running.environment import RunningEnvironment
from buildkit.store.file_locks import acquire_lock, lock_new_path
from buildkit.store.ledger_key import key_file


@contextmanager
def in_turn(environment: RunningEnvironment, emit: Emit) -> Iterator[None]:
    """Wait until no other process of the user starts the environment, and say so. The lock ends with the process."""
    folder = key_file().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"up-{environment.network.name}.lock"
    note = Note(text=f"waiting for another start of {environment.name}", warning=False)
    while True:
        with path.open("w") as lock:
            acquire_lock(lock.fileno(), fcntl.LOCK_EX, lambda: emit(note), lambda: False)
            if not lock_new_path(lock.fileno(), path):
                continue  # whoever had it has removed it
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
