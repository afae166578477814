"""Which of the reloader's processes this is: process 1, a parent of workers, or a client that passes lines through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str], folder: Path) -> int:
    """Run what the arguments ask for; return the exit code."""
    if arguments[:1] == ["--parent"]:
        from .parent import run_parent

        run_parent(int(arguments[1]), arguments[2])
    from .options import parse_options

    options = parse_options(arguments)
    if isinstance(options, Path):
        from .client import run_client

        return run_client(options)
    from .supervisor import run_supervisor

    return run_supervisor(options, folder)
