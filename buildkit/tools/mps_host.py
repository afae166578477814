"""Find control daemons of MPS on this host, from /proc."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from buildkit.gpu.mps import CONTROL, DEFAULT_PIPE, PipeFolder
from buildkit.gpu.mps_host import MpsDaemon, MpsHost

_VARIABLE = b"CUDA_MPS_PIPE_DIRECTORY="
_CONTAINER = re.compile(r"libpod|docker|crio|containerd")


def find_mps_host(root: Path = Path("/")) -> MpsHost:
    """Return what the host has of MPS; never raises."""
    return MpsHost(
        uid=os.getuid(),
        daemons=tuple(_daemons(root)),
        default_pipe=(root / DEFAULT_PIPE.lstrip("/")).is_dir(),
        shm=_mode(root / "dev/shm"),
    )


def _daemons(root: Path) -> Iterator[MpsDaemon]:
    for folder in sorted((root / "proc").glob("[0-9]*")):
        with suppress(OSError):  # it has ended, or is another user's
            if (folder / "comm").read_text().strip() != CONTROL[:15] or not _serves(folder):
                continue
            if _CONTAINER.search((folder / "cgroup").read_text()):
                continue
            yield MpsDaemon(pid=int(folder.name), uid=folder.stat().st_uid, pipe=_pipe(folder, root))


def _serves(folder: Path) -> bool:
    """Return whether a process is a daemon; the same program asks one, and the server's name begins like its."""
    words = (folder / "cmdline").read_bytes().split(b"\0")
    return words[0].rpartition(b"/")[2] == CONTROL.encode() and bool({b"-d", b"-f"}.intersection(words))


def _pipe(folder: Path, root: Path) -> PipeFolder | None:
    try:
        variables = (folder / "environ").read_bytes().split(b"\0")
    except PermissionError:
        return None
    named = (one.removeprefix(_VARIABLE) for one in variables if one.startswith(_VARIABLE))
    path = next(named, b"").decode("utf-8", "surrogateescape") or DEFAULT_PIPE
    above = [parent for parent in reversed(Path(path).parents) if _mode(root / str(parent).lstrip("/")) is not None]
    modes = tuple((str(parent), _mode(root / str(parent).lstrip("/")) or 0) for parent in above)
    return PipeFolder(path=path, parents=modes)


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
