"""What a store may have lost when the machine crashed: nothing is flushed to the disk while a build waits.

The kernel writes files within half a minute (Documentation/admin-guide/sysctl/vm.rst, ``dirty_expire_centisecs``), and
more slowly if the disk is busy. So a crash loses at most what was written shortly before the last tree that the store
has. The first process after a start of the machine reads these trees again, and trusts only those that are whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from buildkit.digest import DiffId
from buildkit.errors import DamagedError
from buildkit.imagestore.storage_lock import replace_file
from buildkit.imagestore.trees import TreeFolder

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_UNFLUSHED = 180.0  # seconds


def has_booted(seen: Path) -> bool:
    """Return whether the machine was started since `remember_boot`."""
    return _read(_BOOT) != _read(seen)


def remember_boot(seen: Path) -> None:
    """Remember this start of the machine."""
    replace_file(seen, _read(_BOOT))


def distrust_lost_trees(trees: TreeFolder, find_alteration: Callable[[DiffId], str]) -> None:
    """Read the trees again that were written last, and distrust those that are not whole."""
    written = trees.all()
    newest = max(written.values(), default=0.0)
    for diff_id, at in written.items():
        if newest - at <= _UNFLUSHED and not _is_whole(diff_id, trees, find_alteration):
            trees.distrust(diff_id)


def _is_whole(diff_id: DiffId, trees: TreeFolder, find_alteration: Callable[[DiffId], str]) -> bool:
    try:
        return bool(trees.facts(diff_id).unpacked) and not find_alteration(diff_id)
    except (FileNotFoundError, DamagedError):
        return False


def _read(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""
