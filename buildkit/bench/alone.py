"""One measurement at a time: two would have containers of one name, and each would slow the other down."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from buildkit.errors import BuildError
from buildkit.store.ledger_key import key_file


@contextmanager
def measuring_alone() -> Iterator[None]:
    """Measure, until the block ends, as this user's only process. Raises BuildError if another one measures."""
    folder = key_file().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "measuring.lock").open("w") as lock:  # it stays, and the lock ends with the process
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuildError("another measurement is running on this host", hint="wait until it has ended") from None
        yield
