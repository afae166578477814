"""git: which files belong to the checkout."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from buildkit.tools.process import Command, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Paths relative to the folder that was asked about: what git tracks, and what it neither tracks nor ignores."""

    tracked: tuple[str, ...]
    untracked: tuple[str, ...]


def list_files(folder: Path, path: str) -> Listing | None:
    """Files of a work tree below ``folder``/``path``, or None where ``folder`` is not inside one."""
    command = Command(
        argv=(
            "git",
            "-c", "core.quotePath=false",
            "ls-files",
            "-z",  # names may hold anything
            "-t",  # H: tracked, ?: not
            "--cached", "--others", "--exclude-standard", "--deduplicate",
            "--", path,
        ),
        cwd=folder,
        env={"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"},
        accept=(0, 128),
    )  # fmt: skip
    finished = run(command)
    if finished.code == 128:
        return None
    rows = [os.fsdecode(row) for row in finished.stdout.split(b"\0") if row]
    return Listing(
        tracked=tuple(sorted(row[2:] for row in rows if row[0] != "?")),
        untracked=tuple(sorted(row[2:] for row in rows if row[0] == "?")),
    )
