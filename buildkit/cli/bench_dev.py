"""The session ``bench-dev``: how long a save, a start, a test and a changed pin take."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import make_parser, parse_positive


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Measure in a copy of the committed project, print a table, and write it where ``--write`` says."""
    options = _parse(arguments)

    from buildkit.bench.alone import measuring_alone
    from buildkit.bench.dev_bench import DevBenchRequest, run_dev_bench
    from buildkit.bench.dev_samples import DevSample, merge_samples, render_samples
    from buildkit.bench.host import describe_podman_host
    from buildkit.report.output_files import read_document, write_text

    request = DevBenchRequest(
        folder=folder,
        stage=options.stage,
        file=options.file,
        text=options.text,
        url=options.url,
        repeat=options.repeat,
        tests=tuple(shlex.split(options.tests)),
        suite=tuple(shlex.split(options.suite)),
        server=tuple(shlex.split(options.server)),
    )
    if options.write is not None:
        merge_samples(read_document(options.write), "", ())  # before an hour is spent
    host, samples = describe_podman_host(), list[DevSample]()

    def report(sample: DevSample) -> None:
        samples.append(sample)
        sys.stderr.write(f"{sample.who}: {sample.what}: {sample.median:.3f} s, worst {sample.worst:.3f} s\n")
        if options.write is not None:
            write_text(options.write, merge_samples(read_document(options.write), host, samples))

    with measuring_alone():
        run_dev_bench(request, report)
    sys.stdout.write(render_samples(host, samples))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("bench-dev")
    parser.add_argument("--stage", default="development", help="stage to work in (default: development)")
    parser.add_argument("--file", default="stages/runtime/app/api.py", help="file to edit")
    parser.add_argument("--text", default="see /openapi.json for the routes", help="text in it that an answer shows")
    parser.add_argument("--url", default="http://127.0.0.1:8000/nowhere", help="address whose answer shows it")
    parser.add_argument("--tests", default="-q tests/test_settings.py", help="arguments of a quick test")
    parser.add_argument("--suite", default="-q -n auto", help="arguments of a run of all tests; empty: none")
    parser.add_argument(
        "--server",
        default="uvicorn main:app --host 0.0.0.0 --port 8000 --reload",
        help="a server that reloads, to compare with; empty: none",
    )
    parser.add_argument("--repeat", type=parse_positive, default=20, metavar="N", help="saves (default: 20)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write this host's column in this document")
    return parser.parse_args(list(arguments))
