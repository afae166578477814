"""The table of a development environment that is healthy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from buildkit.develop.debug_settings import write_launch, write_run_configurations
from buildkit.develop.dev_session import DevStart, describe_rows, find_debug_targets
from buildkit.report.loop_view import Said, Tell
from buildkit.report.table import print_table
from buildkit.services.state import find_states

_TITLES = ("service", "address", "state", "use")


def show_start(start: DevStart, folder: Path, options: argparse.Namespace, tell: Tell) -> None:
    """Print the table of services, or tell of each as an event; write settings and open a browser if asked for."""
    states = find_states(start.environment)
    rows = describe_rows(start, states)
    if options.json:
        for row in rows:
            details = tuple(zip(_TITLES, row, strict=True))
            tell(Said(event="service", text=f"{row[0]} is {row[2]}", details=details))
    else:
        print_table("development environment", _TITLES, rows, sys.stderr)
    written = [write_launch(folder, find_debug_targets(start))] if options.write_launch else []
    written += write_run_configurations(folder, find_debug_targets(start)) if options.write_pycharm else []
    for path in written:
        tell(Said(event="wrote", text=f"wrote {path.relative_to(folder)}"))
    addresses = [address for state in states for address in state.addresses]
    if options.open and addresses:
        import webbrowser

        webbrowser.open(start.notebooks.link if start.notebooks else f"http://{addresses[0]}/")
