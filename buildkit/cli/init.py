"""The session ``init``: write stages for an existing repository."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from buildkit.adopt.init import Adoption, adopt
from buildkit.adopt.sources import InitOptions
from buildkit.cli.options import make_parser


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Write the files, and print what was written and what is left to a person. Raises DefinitionError, BuildError."""
    parser = make_parser("init")
    parser.add_argument(
        "--file", action="append", default=[], metavar="PATH",
        help="a Containerfile; several make several images (default: those that are found)",
    )  # fmt: skip
    parser.add_argument("--target", default="", metavar="NAME", help="its build stage (default: the last)")
    parser.add_argument("--name", default="", help="the name of the new stage (default: of the service, or app)")
    parser.add_argument("--context", default="", metavar="FOLDER", help="what COPY is relative to (default: found out)")
    parser.add_argument("--into", default="", metavar="FOLDER", help="write there, and change nothing that exists")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parsed = parser.parse_args(list(arguments))
    options = InitOptions(
        files=tuple(parsed.file), target=parsed.target, name=parsed.name, context=parsed.context, into=parsed.into
    )
    done = adopt(folder, options)
    sys.stdout.write(json.dumps(asdict(done), indent=2) + "\n" if parsed.json else _format(done))


def _format(done: Adoption) -> str:
    lines = [f"  wrote {path}" for path in done.written if path not in done.extended]
    lines += [f"  added [tool.buildkit] to {path}" for path in done.extended]
    if done.leftovers:
        lines += ["", "left to you:", *(f"  {leftover}".replace("\n", "\n  ") for leftover in done.leftovers)]
    first, *others = done.stages
    build = "build" if others else f"build-{first}"
    steps = f"git add -A && nox -s lock && nox -s {build} && nox -s run-{first}"
    return "\n".join([*lines, "", f"next: {steps}"]) + "\n"
