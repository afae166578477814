"""The session ``schema``: print the JSON Schema of stage files, or write it to a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import make_parser
from buildkit.declare.stage import stage_schema
from buildkit.report.output_files import write_text


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Print the schema, or write it to the file that is named, relative to ``folder``; raises DefinitionError."""
    parser = make_parser("schema")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="write it there (default: print it)")
    file = parser.parse_args(list(arguments)).file
    text = json.dumps(stage_schema(), indent=2) + "\n"
    if file is None:
        sys.stdout.write(text)
    else:
        write_text(folder / file, text)
