"""The session ``init``: write stages for an existing repository."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from buildkit.adopt.init import Adoption, InitOptions, adopt
from buildkit.cli.options import make_parser


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Write the files, and print what was written and what is left to a person. Raises DefinitionError, BuildError."""
    parser = make_parser("init")
    parser.add_argument("--file", default="", metavar="PATH", help="the Containerfile (default: the one that is found)")
    parser.add_argument("--target", default="", metavar="NAME", help="its build stage (default: the last)")
    parser.add_argument("--name", default="app", help="the name of the new stage (default: app)")
    parser.add_argument("--into", default="", metavar="FOLDER", help="write there, and change nothing that exists")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parsed = parser.parse_args(list(arguments))
    options = InitOptions(file=parsed.file, target=parsed.target, name=parsed.name, into=parsed.into)
    done = adopt(folder, options)
    sys.stdout.write(json.dumps(asdict(done), indent=2) + "\n" if parsed.json else _format(done))


def _format(done: Adoption) -> str:
    lines = [f"  wrote {path}" for path in done.written if path not in done.extended]
    lines += [f"  added [tool.buildkit] to {path}" for path in done.extended]
    if done.leftovers:
        lines += ["", "left to you:", *(f"  {leftover}" for leftover in done.leftovers)]
    steps = f"git add -A && nox -s lock && nox -s build-{done.stage} && nox -s run-{done.stage}"
    return "\n".join([*lines, "", f"next: {steps}"]) + "\n"
