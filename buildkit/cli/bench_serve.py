"""The session ``bench-serve``: latency, throughput, refusals and memory of the service under load."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import make_parser, parse_positive
from buildkit.cli.session_list import REFERENCE_SERVICE
from buildkit.errors import DefinitionError


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Measure, print Markdown, and write it where ``--write`` says. Raises DefinitionError without the service."""
    options = _parse(arguments)

    from buildkit.bench.alone import measuring_alone
    from buildkit.bench.serve_session import ServeBenchRequest, compare_service, hold_claims
    from buildkit.bench.serve_tables import replace_between
    from buildkit.report.output_files import read_document, write_text

    mark = "bench-serve --guide" if options.guide else "bench-serve"
    if options.write is not None:
        replace_between(read_document(options.write), mark, "")  # before an hour is spent
    if not (folder / REFERENCE_SERVICE).exists():
        raise DefinitionError(
            f"bench-serve measures the reference service, which this project lacks: there is no {REFERENCE_SERVICE}",
            hint="nox -s profile -- STAGE measures any service, with requests of your own",
        )
    request = ServeBenchRequest(
        folder=folder,
        stage=options.stage,
        before=options.before,
        starts=options.starts,
        many=options.requests,
        options=tuple(options.option),
    )

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    with measuring_alone():
        text = (hold_claims if options.guide else compare_service)(request, say)
    if options.write is not None:
        write_text(options.write, replace_between(read_document(options.write), mark, text))
    sys.stdout.write(text)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("bench-serve")
    parser.add_argument("--stage", default="runtime", help="stage to serve (default: runtime)")
    parser.add_argument(
        "--before", type=_parse_commit, default="", metavar="COMMIT",
        help="measure the application of this commit beside it",
    )  # fmt: skip
    parser.add_argument("--guide", action="store_true", help="measure the guide's own service, and its claims")
    parser.add_argument("--starts", type=parse_positive, default=5, metavar="N", help="starts (default: 5)")
    parser.add_argument(
        "--requests", type=parse_positive, default=100, metavar="N", help="of each of 50 clients for the claims (100)"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="OPTION", help="one more option of podman run, e.g. --cpus=1"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the figures in this document")
    return parser.parse_args(list(arguments))


def _parse_commit(text: str) -> str:
    if text.startswith("-"):
        raise argparse.ArgumentTypeError(f"must be a commit, not {text!r}")  # git would take it for an option
    return text
