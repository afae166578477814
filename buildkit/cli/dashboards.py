"""The session ``dashboards``: write the dashboards of docs/dashboards.md as JSON for Grafana and Perses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import make_parser
from buildkit.errors import DefinitionError
from buildkit.observe.dashboards.documents import render_dashboards
from buildkit.report.output_files import write_text


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Write every dashboard below a folder, each file wholly or not at all. Raises DefinitionError and BuildError."""
    parser = make_parser("dashboards")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("dashboards"), metavar="FOLDER",
        help="write grafana/NAME.json and perses/NAME.json below it (default: %(default)s)",
    )  # fmt: skip
    target = folder / parser.parse_args(list(arguments)).folder
    for name, text in render_dashboards().items():
        path = target / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DefinitionError(
                f"{path.parent}: {error.strerror}", hint="name a folder that can be made: nox -s dashboards -- FOLDER"
            ) from error
        write_text(path, text)
        sys.stderr.write(f"{path}\n")
