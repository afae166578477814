"""The context of a build: what its parts share and what stays the same while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.build_state import BuildState
from buildkit.build.input_files import InputFiles
from buildkit.build.tally import Tally
from buildkit.declare.project import Project
from buildkit.errors import BuildError, Interrupted, describe_disk_error
from buildkit.events import Emit, Note, StepProgress
from buildkit.imagestore.image_store import ImageStore
from buildkit.imagestore.store_folder import find_image_store
from buildkit.layers.tar.member import PackedLayer
from buildkit.lazy_dataclass import dataclass
from buildkit.remote.remote_cache import RemoteCache
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import LayerBytes
from buildkit.store.ledger import Ledger
from buildkit.store.private_folder import ensure_private
from buildkit.store.stat_index import StatIndex
from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tools.usage import ResourceUsage, WorkCost

if TYPE_CHECKING:
    from buildkit.build.compiler_keeper import CompilerKeeper

_WAITING = {
    True: "waiting until all builds and other commands that use this cache have ended",
    False: "waiting for `cache gc` or `cache verify`, which needs the cache for itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """The collaborators of one run; threads share them.

    The context itself never changes. What a run learns about layers is in ``state``, the bytes it moves in ``tally``,
    the time it takes in ``meter``; each of these is written through its own methods only. ``layers`` reads what
    was packed, wherever it is. ``secrets`` are the sources
    of steps' secrets that the command line names, by name. ``image_store`` is where images are delivered; None if they
    are imported. ``layers`` may read an image store even so. ``compilers`` keeps the bytecode compiler for later builds
    of this process; without it, each build has its own.
    """

    project: Project
    blobs: Blobs
    layers: LayerBytes
    ledger: Ledger
    stat_index: StatIndex
    files: InputFiles
    remote_cache: RemoteCache
    emit: Emit
    stop: threading.Event
    state: BuildState
    tally: Tally
    meter: PhaseMeter
    secrets: tuple[tuple[str, str], ...] = ()
    image_store: ImageStore | None = None
    compilers: CompilerKeeper | None = None

    def progress(self, step: str) -> Callable[[int], None]:
        """Return a function that reports the bytes done of a step; it raises Interrupted once ``stop`` is set."""

        def report(done: int) -> None:
            if self.stop.is_set():
                raise Interrupted("interrupted")
            self.emit(StepProgress(step=step, done=done))

        return report

    def record_compression(self, packed: PackedLayer) -> None:
        """Add the time and bytes of compressing a layer to the meter, which cannot see the compressor's own thread."""
        usage = ResourceUsage(read=packed.unpacked, written=packed.size)
        self.meter.add("compress", WorkCost(seconds=packed.busy, usage=usage))


def make_context(
    project: Project, blobs: Blobs, ledger: Ledger, emit: Emit, *, stop: threading.Event | None = None
) -> BuildContext:
    """Return a context for a run that has learned nothing yet and reads no remote cache."""
    stop = stop or threading.Event()
    index, tally = StatIndex(ledger, emit), Tally()
    return BuildContext(
        project=project,
        blobs=blobs,
        layers=LayerBytes(blobs),
        ledger=ledger,
        stat_index=index,
        files=InputFiles(project=project, blobs=blobs, ledger=ledger, stat_index=index, tally=tally, stop=stop),
        remote_cache=RemoteCache(emit),
        emit=emit,
        stop=stop,
        state=BuildState(),
        tally=tally,
        meter=PhaseMeter(),
    )


def cache_folder() -> Path:
    """Return ``$BUILDKIT_CACHE`` or, if it is unset, the user's cache folder by the XDG rules.

    The path is absolute because links lead into the folder. Raises BuildError for a path that cannot be one.
    """
    setting = os.environ.get("BUILDKIT_CACHE")
    hint = "set BUILDKIT_CACHE=/path to a folder for the cache"
    try:
        folder = (Path(setting).expanduser() if setting else _user_cache()).absolute()
    except RuntimeError:
        raise BuildError(f"{setting}: there is no such home folder", hint=hint) from None
    if ":" in str(folder):  # buildah ends the source of a mount at a colon
        raise BuildError(f"{folder}: the cache's path must not contain a colon", hint=hint)
    return folder


def _user_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("xoe-buildkit", appauthor=False)


@contextmanager
def open_context(
    project: Project, emit: Emit, *, alone: bool = False, stop: threading.Event | None = None
) -> Iterator[BuildContext]:
    """Open the user's cache, shared with other builds, or ``alone`` to remove things from it.

    Raises BuildError if the folder cannot be used, or if another user could change what is in it.
    """
    folder = cache_folder()
    try:
        ensure_private(folder)
        blobs = Blobs(folder)
    except OSError as error:
        trouble = describe_disk_error(error)
        hint = "free some room, or move the cache" if trouble else "move the cache"
        raise BuildError(f"{folder}: {trouble or error.strerror}", hint=f"{hint}: BUILDKIT_CACHE=/path") from error
    with (
        blobs.in_use(alone=alone, waiting=lambda: emit(Note(text=_WAITING[alone])), stopped=lambda: False),
        closing(Ledger(folder / "ledger.sqlite", alone=alone)) as ledger,
    ):
        context = make_context(project, blobs, ledger, emit, stop=stop)
        yield replace(context, layers=LayerBytes(blobs, find_image_store()))
