"""The Debian packages that the archive has now, for a build whose locked ones it no longer has."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.events import Emit
from buildkit.resolve.apt import AptResolver, lock_apt
from buildkit.resolve.changes import describe_changes
from buildkit.resolve.image_roots import ImageRoots
from buildkit.resolve.project_locks import make_request
from buildkit.resolve.request import LockDrafts
from buildkit.tools.apt import resolve_apt


class PresentLock(NamedTuple):
    """An apt lock as ``nox -s lock -- --upgrade-apt`` would write it now, and what differs from the one on disk."""

    file: str
    text: str
    changes: tuple[str, ...]


def find_present_locks(folder: Path, emit: Emit) -> tuple[PresentLock, ...]:
    """Return the apt locks that differ from those on disk, and write nothing. Raises what ``lock_apt`` raises."""
    request = make_request(load_project(folder), load_graph(folder))
    drafts = LockDrafts(request.root)
    with closing(ImageRoots(folder, emit, threading.Event())) as roots:
        resolver = AptResolver(resolve=resolve_apt, read_image=roots.read_files)
        for each in request.of_each_arch():
            lock_apt(each, drafts, resolver, emit, upgrade=True)
    texts = {file: drafts.get(file) for file in drafts.changed()}
    return tuple(
        PresentLock(file, text, describe_changes(drafts.read_disk(file), text)) for file, text in texts.items()
    )
