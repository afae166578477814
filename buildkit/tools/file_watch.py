"""Watch files for changes; the only importer of ``watchfiles``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.tools.file_system import find_file_system

_STEP = 10  # milliseconds without another change until changes are reported; watchfiles' 50 would be felt at each save
_DEBOUNCE = 400  # milliseconds after which they are reported although more come
_POLL = 200  # milliseconds between looks where the kernel tells nothing
_WAKE = 100  # milliseconds until a stop is noticed
_SILENT = ("nfs", "cifs", "smb2", "smb3", "v9fs", "fuse", "fuseblk", "UNKNOWN (0x786f4256)")  # the last is vboxsf


def watch_files(paths: Sequence[Path], stop: threading.Event, *, recursive: bool = True) -> Iterator[frozenset[str]]:
    """Yield the absolute paths of what changed below ``paths``, several at once, until ``stop`` is set.

    Now and then nothing is yielded; from the first time on, every change is noticed.

    With ``BUILDKIT_POLL=1`` the files are looked at again and again; so they are where the kernel tells of no change
    (network file systems, folders that a host shares with its virtual machine). Raises BuildError if there are too many
    folders.
    """
    import watchfiles

    polling = bool(os.environ.get("BUILDKIT_POLL")) or any(find_file_system(path) in _SILENT for path in paths)
    try:
        for changes in watchfiles.watch(
            *paths,
            watch_filter=None,
            debounce=_DEBOUNCE,
            step=_STEP,
            stop_event=stop,
            rust_timeout=_WAKE,
            force_polling=polling,
            poll_delay_ms=_POLL,
            recursive=recursive,
            ignore_permission_denied=True,
            raise_interrupt=False,
            yield_on_timeout=True,
        ):
            yield frozenset(_with_content(changes, watchfiles.Change.added))
    except OSError as error:
        hint = "sudo sysctl fs.inotify.max_user_watches=524288, or BUILDKIT_POLL=1 to look at the files instead"
        raise BuildError(f"files cannot be watched: {error}", hint=hint) from error


def _with_content(changes: Iterable[tuple[int, str]], added: int) -> Iterator[str]:
    """Yield what changed; of a new folder the files, too, for they may have come before the kernel was asked."""
    for change, path in changes:
        yield path
        if change == added and os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 - text is enough
            for parent, folders, names in os.walk(path):
                folders[:] = [name for name in folders if name != ".git"]
                yield from (os.path.join(parent, name) for name in names)  # noqa: PTH118
