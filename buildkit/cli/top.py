"""`nox -s top`: what containers use, from the kernel's own figures."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from buildkit.cli.looks import add_interval_argument, repeat_looks
from buildkit.cli.options import make_parser
from buildkit.errors import Interrupted
from buildkit.inspection.container_watch import ContainerWatch, WatchSources
from buildkit.inspection.expected_images import ExpectedImages
from buildkit.inspection.watch_scope import load_scope
from buildkit.monitor.snapshot import Snapshot, snapshot_as_json
from buildkit.report.columns import print_columns
from buildkit.report.top_table import TOP_COLUMNS, top_lines, top_rows
from buildkit.report.view import open_view
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.gpu_meter import open_gpu_meter

_INTERVAL = 1.0  # seconds
_LEAST = 0.1


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Show containers until Ctrl-C, or once without a terminal. Raises DefinitionError, MissingTool and ToolError."""
    options = _parse(arguments)
    lasts = options.stream or (sys.stdout.isatty() and not options.json)
    try:
        with _open_watch(folder, every=options.all) as watch:
            if options.stream:
                _stream(watch, options.interval)
            elif lasts:
                _show(watch, options.interval)
            else:
                watch.look()  # rates need two
                time.sleep(options.interval)
                _print(watch.look(), as_json=options.json)
    except (Interrupted, KeyboardInterrupt):
        if not lasts:
            raise
    return 0


@contextmanager
def _open_watch(folder: Path, *, every: bool) -> Iterator[ContainerWatch]:
    with open_view(sys.stderr) as emit:
        scope = load_scope(folder, emit)
        expected = ExpectedImages(folder, scope.stages, emit)
        with open_gpu_meter() as measure:
            yield ContainerWatch(
                sources=WatchSources(
                    find_running=scope.finder(every=every),
                    reader=CgroupReader(),
                    measure_gpus=measure,
                    clock=time.monotonic,
                    wall=time.time,
                    expected=expected.find,
                )
            )


def _stream(watch: ContainerWatch, interval: float) -> None:
    for snapshot in repeat_looks(watch.look, interval):
        sys.stdout.write(json.dumps(snapshot_as_json(snapshot)) + "\n")
        sys.stdout.flush()


def _show(watch: ContainerWatch, interval: float) -> None:
    from buildkit.report.live import open_screen

    with open_screen(sys.stdout) as draw:
        for snapshot in repeat_looks(watch.look, interval):
            size = shutil.get_terminal_size()
            draw(top_lines(snapshot, size.columns, size.lines))


def _print(snapshot: Snapshot, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(snapshot_as_json(snapshot), indent=2) + "\n")
        return
    if not snapshot.containers:
        sys.stdout.write("no container runs\n")
    print_columns(TOP_COLUMNS, top_rows(snapshot), sys.stdout)
    for problem in snapshot.problems:
        sys.stdout.write(f"{problem}\n")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("top")
    parser.description = "Show what running containers use. Changes nothing."
    parser.add_argument("--all", action="store_true", help="all containers of this user, not only this project's")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one look as JSON")
    how.add_argument("--stream", action="store_true", help="print a line of JSON for each look, until Ctrl-C")
    add_interval_argument(parser, default=_INTERVAL, least=_LEAST)
    return parser.parse_args(list(arguments))
