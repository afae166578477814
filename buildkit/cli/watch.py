"""The session ``watch``: ``develop.watch`` of a compose file, for containers that podman runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import make_parser


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Watch until Ctrl-C. Raises DefinitionError and BuildError."""
    parser = make_parser("watch")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="compose file (default: compose.yaml)")
    parser.add_argument("service", nargs="*", metavar="SERVICE", help="watch these only")
    parser.add_argument(
        "-f", "--file", dest="more", action="append", default=[], type=Path, metavar="FILE",
        help="another compose file, over those before it; repeatable",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print events as JSON, one a line, for editors")
    parser.add_argument("--no-start", action="store_true", help="start no service; fail if one does not run")
    options = parser.parse_args(list(arguments))

    from buildkit.develop.compose_project import find_compose
    from buildkit.develop.compose_watch import watch_compose
    from buildkit.report.loop_view import LoopView

    paths = (folder / options.file,) if options.file else () if options.more else find_compose(folder)
    paths = (*paths, *(folder / path for path in options.more))
    view = LoopView(sys.stdout, sys.stderr, as_json=options.json)
    watch_compose(paths, options.service, view, start=not options.no_start)
