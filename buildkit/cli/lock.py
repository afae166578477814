"""The session ``lock``: make or refresh the locks of a project."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from buildkit.cli.options import make_parser
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.errors import BuildError
from buildkit.report.view import open_view
from buildkit.resolve.all_locks import Renewed, check_locks, lock_all
from buildkit.resolve.builder import open_builder
from buildkit.resolve.images import report_moved
from buildkit.resolve.package_metadata import HOST_BUILDS
from buildkit.resolve.project_locks import make_request
from buildkit.resolve.request import LockChange


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Make or refresh every lock; raises DefinitionError, or BuildError if ``--check`` finds something."""
    options = _parse(arguments)
    project = load_project(folder)
    graph = load_graph(folder)
    allowed = options.allow_host_builds or os.environ.get(HOST_BUILDS) == "1"
    request = replace(make_request(project, graph), host_builds=allowed)
    with open_view(sys.stderr) as emit, open_builder(project, graph, emit, allowed=allowed) as describe:
        request = replace(request, describe=describe)
        if options.check:
            changes = check_locks(request)
            report_moved(request, emit)
        else:
            renewed = Renewed(all=options.upgrade, apt=options.upgrade_apt, images=options.upgrade_images)
            changes = lock_all(request, emit, renewed)
    if options.check and changes:
        lines = "\n".join(f"  - {change.file}: {', '.join(change.details)}" for change in changes)
        raise BuildError(f"locks to refresh:\n{lines}", hint="run: nox -s lock")
    sys.stderr.write(_summary(changes))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("lock")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the inputs allow")
    parser.add_argument("--upgrade-apt", action="store_true", help="take the versions that Debian has now")
    parser.add_argument("--upgrade-images", action="store_true", help="take what the names of root images mean now")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a lock is missing or stale")
    parser.add_argument(
        "--allow-host-builds",
        action="store_true",
        help=f"let build backends run on this host if they cannot run in the builder (or set {HOST_BUILDS}=1)",
    )
    return parser.parse_args(list(arguments))


def _summary(changes: Sequence[LockChange]) -> str:
    if not changes:
        return "locks: nothing changed\n"
    return "".join(f"{change.file}: {', '.join(change.details) or 'made'}\n" for change in changes)
