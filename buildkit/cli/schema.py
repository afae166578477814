"""The session ``schema``: print the JSON Schema of stage files or of services.toml, or write it to a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import make_parser
from buildkit.declare.services_file import services_schema
from buildkit.declare.stage_file import stage_schema
from buildkit.report.output_files import write_text


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Print the schema, or write it to the file that is named, relative to ``folder``; raises DefinitionError."""
    parser = make_parser("schema")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="write it there (default: print it)")
    parser.add_argument("--services", action="store_true", help="that of services.toml")
    options = parser.parse_args(list(arguments))
    schema = services_schema() if options.services else stage_schema()
    text = json.dumps(schema, indent=2) + "\n"
    if options.file is None:
        sys.stdout.write(text)
    else:
        write_text(folder / options.file, text)
