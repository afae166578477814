"""The session ``audit-running``: hold the containers that run against what is declared for them."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from buildkit.cli.audit import parse_gate
from buildkit.cli.looks import add_interval_argument, repeat_looks
from buildkit.cli.observe import load_running_stack
from buildkit.cli.options import make_parser
from buildkit.develop.dev_declared import find_added
from buildkit.develop.dev_home import find_home
from buildkit.errors import DefinitionError, Interrupted
from buildkit.findings import Severity
from buildkit.inspection.declared_containers import Declarations, OtherSessions
from buildkit.inspection.running_audit import AuditSources, RunningAudit, audit_containers
from buildkit.inspection.running_audit_report import (
    audit_as_json,
    audit_as_sarif,
    render_running_audit,
    screen_lines,
)
from buildkit.inspection.signed_images import SignedImages
from buildkit.oci.reference import Ref, parse_ref
from buildkit.report.output_files import check_writable, write_text
from buildkit.report.view import open_view
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.process_reader import read_containers
from buildkit.tools.running_containers import RunningDescriptions

_INTERVAL = 10.0  # seconds
_LEAST = 1.0
_PATIENCE = 30.0  # seconds that reading the processes of all containers may last


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Audit containers until Ctrl-C, or once; return 1 if a single look fails, else 0.

    Raises DefinitionError, BuildError and MissingTool.
    """
    options = _parse(arguments)
    for path in filter(None, (options.output, options.sarif)):
        check_writable(path)
    lasts = not options.once and (options.stream or (sys.stdout.isatty() and not options.json))
    with open_view(sys.stderr) as emit:
        others = OtherSessions(
            added=partial(find_added, find_home(folder), folder), load_stack=partial(load_running_stack, folder)
        )
        declarations = Declarations(folder, emit, _load_signed(options), time.monotonic, others)
    reader = CgroupReader()
    sources = AuditSources(
        podman=RunningDescriptions(reader, time.monotonic),
        read=partial(read_containers, seconds=_PATIENCE),
        wall=time.time,
        limits=reader,
        every=options.all,
    )
    if not lasts:
        return _look_once(partial(audit_containers, declarations, sources), options)
    try:
        with _open_output(options) as show:
            for audit in repeat_looks(partial(audit_containers, declarations, sources), options.interval):
                _write_files(audit, options, options.interval)
                show(audit)
    except (Interrupted, KeyboardInterrupt):
        pass
    return 0


def _look_once(look: Callable[[], RunningAudit], options: argparse.Namespace) -> int:
    audit = look()
    _write_files(audit, options, None)
    if options.json or options.stream:
        sys.stdout.write(json.dumps(audit_as_json(audit, None), indent=None if options.stream else 2) + "\n")
    else:
        sys.stdout.write("\n".join(render_running_audit(audit, options.fail_on)) + "\n")
    return int(audit.closes(options.fail_on))


def _write_files(audit: RunningAudit, options: argparse.Namespace, interval: float | None) -> None:
    if options.output:
        write_text(options.output, json.dumps(audit_as_json(audit, interval)) + "\n")
    if options.sarif:
        write_text(options.sarif, audit_as_sarif(audit))


@contextmanager
def _open_output(options: argparse.Namespace) -> Iterator[Callable[[RunningAudit], None]]:
    """Yield what shows an audit: a line of JSON, or the screen."""
    if options.stream:
        yield lambda audit: print(json.dumps(audit_as_json(audit, options.interval)), flush=True)  # noqa: T201
        return
    from buildkit.report.live import open_screen

    with open_screen(sys.stdout) as draw:
        yield lambda audit: draw(screen_lines(audit, shutil.get_terminal_size().lines))


def _load_signed(options: argparse.Namespace) -> SignedImages:
    refs = dict(options.signed)
    if refs and options.key is None:
        raise DefinitionError("--signed needs the key that must have signed the image", hint="give --key PUB")
    if options.key is None:
        return SignedImages()
    from buildkit.tools.keys import load_verifier

    return SignedImages(key=load_verifier(options.key), refs=refs)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("audit-running")
    parser.description = "Hold running containers against what is declared for them. Changes nothing."
    parser.add_argument("--all", action="store_true", help="all containers of this user, not only this project's")
    parser.add_argument("--once", action="store_true", help="look once, also on a terminal")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="look once, and print JSON")
    how.add_argument("--stream", action="store_true", help="print a line of JSON for each look, until Ctrl-C")
    add_interval_argument(parser, default=_INTERVAL, least=_LEAST)
    parser.add_argument(
        "--fail-on", type=parse_gate, default=Severity.HIGH, metavar="SEVERITY",
        help="of one look: exit with 1 from this severity on: critical, high (default), medium, low, note, or never",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write each look as JSON, for the monitor")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write each look as SARIF 2.1.0")
    parser.add_argument("--key", type=Path, metavar="PUB", help="require images that this public key has signed")
    parser.add_argument(
        "--signed", type=_parse_signed, action="append", default=[], metavar="STAGE=REF",
        help="where the signed image of a stage is (needs --key); repeatable",
    )  # fmt: skip
    return parser.parse_args(list(arguments))


def _parse_signed(text: str) -> tuple[str, Ref]:
    stage, separator, ref = text.partition("=")
    if not (stage and separator):
        raise argparse.ArgumentTypeError(f"must be STAGE=REF, not {text!r}")
    try:
        return stage, parse_ref(ref, f"the signed image of {stage}")
    except DefinitionError as error:
        raise argparse.ArgumentTypeError(error.message) from None
