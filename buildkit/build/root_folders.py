"""Folders in which mmdebstrap makes roots, so that a killed build leaves none.

They lie below TMPDIR and not in the cache: as an ordinary user, mmdebstrap works under another user id, which may not
enter the cache. A lease records the place, so the next build finds it wherever TMPDIR leads by then.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import MissingTool
from buildkit.store.leases import Leases
from buildkit.tools.isolation import in_user_namespace
from buildkit.tools.process import Command, run

_LEASE = re.compile(r"root-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class RootFolder:
    """A folder, and the descriptor of its lease: whoever inherits it keeps the folder from being swept."""

    path: Path
    handle: int


@contextmanager
def root_folder(leases: Leases) -> Iterator[RootFolder]:
    """Make a folder that every user may enter, and remove it at the end with all that is in it."""
    name = f"root-{os.urandom(6).hex()}"
    path = Path(tempfile.gettempdir(), f"buildkit-{name}").absolute()
    with leases.hold(name) as lease:
        os.write(lease.handle, os.fsencode(path))  # before there is anything to find
        try:
            path.mkdir()
            path.chmod(0o711)  # whatever the umask
            yield RootFolder(path, lease.handle)
        finally:
            if _remove(path):
                lease.release()


def sweep_root_folders(leases: Leases) -> None:
    """Remove the folders of dead builds."""
    leases.sweep(lambda names: remove_root_folders(leases, select_root_folders(names)))


def select_root_folders(leases: Iterable[str]) -> tuple[str, ...]:
    """Return those names of leases that are for folders of roots."""
    return tuple(name for name in leases if _LEASE.fullmatch(name))


def remove_root_folders(leases: Leases, names: Sequence[str]) -> frozenset[str]:
    """Remove the folders of these leases; return the names of those that are gone."""
    places = {name: _place(leases.folder / name) for name in names}
    return frozenset(name for name, place in places.items() if place is None or _remove(place))


def _place(lease: Path) -> Path | None:
    """Return the folder that a lease records; None if its build was killed before there was one."""
    place = Path(os.fsdecode(lease.read_bytes()))
    return place if place.name == f"buildkit-{lease.name}" else None


def _remove(path: Path) -> bool:
    """Return whether the folder is gone; otherwise its lease stays, and a later sweep tries again."""
    with suppress(OSError):
        path.rmdir()  # mmdebstrap has removed what it made
    if os.path.lexists(path):  # what is in it may belong to subordinate ids; a mount in it is left alone
        argv = ("rm", "--recursive", "--force", "--one-file-system", "--", str(path))
        with suppress(MissingTool):
            run(Command(argv=in_user_namespace(argv), accept=tuple(range(256)), is_cleanup=True))
    return not os.path.lexists(path)
