"""``nox -s sbom``: the bill of materials of a stage, from its locks and its layers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.planner import check_stage, open_planner
from buildkit.build.sbom import FORMATS, make_bill, render_bill
from buildkit.cli.main import check_writable, write_text
from buildkit.cli.options import Parser, RemoteCacheOptions, add_remote_cache_arguments, open_remote_cache
from buildkit.report.text import format_count
from buildkit.report.view import open_view
from buildkit.supply.components import Bill, PartKind

_WORDS = {
    PartKind.WHEEL: "Python package",
    PartKind.DEBIAN: "Debian package",
    PartKind.MODEL: "model",
    PartKind.APPLICATION: "folder of files",
    PartKind.IMAGE: "image of a registry",
}


def sbom(folder: Path, arguments: Sequence[str]) -> None:
    """Print a stage's bill of materials, or write it to a file; raises DefinitionError and BuildError."""
    options = _parse(arguments)
    if options.output is not None:
        check_writable(options.output)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        open_remote_cache(planner.context, RemoteCacheOptions.of(options))
        bill = make_bill(planner, check_stage(planner.graph, options.stage))
    text = render_bill(bill, options.format).decode()
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_text(options.output, text)
    sys.stderr.write("".join(f"{line}\n" for line in render_summary(bill)))


def render_summary(bill: Bill) -> list[str]:
    """What the bill lists, and what it does not know, in lines for people."""
    counts = [(sum(part.kind is kind for part in bill.parts), word) for kind, word in _WORDS.items()]
    stage = bill.image.rpartition("/")[2]
    lines = [f"{bill.image}: " + (", ".join(format_count(count, word) for count, word in counts if count) or "nothing")]
    if unmade := sum(not layer.blobs for layer in bill.layers):
        hint = f"build it: nox -s build-{stage}"
        lines.append(f"  {unmade} of {len(bill.layers)} layers were never made here, so they have no digest ({hint})")
    unlicensed = [part for part in bill.parts if part.licence.missing and part.kind is not PartKind.IMAGE]
    unlicensed = [part for part in unlicensed if part.kind is not PartKind.APPLICATION]
    for why in sorted({part.licence.missing for part in unlicensed}):
        count = sum(part.licence.missing == why for part in unlicensed)
        lines.append(f"  {count} without a known licence: {why}")
    if bill.dirty:
        lines.append("  files differ from the commit that it names: commit them for a bill that others can check")
    return lines


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s sbom --")
    parser.add_argument("stage", metavar="STAGE")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="CycloneDX 1.6 or SPDX 2.3, as JSON")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there; printed unless said")
    add_remote_cache_arguments(parser)
    return parser.parse_args(list(arguments))
