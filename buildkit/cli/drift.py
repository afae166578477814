"""The session ``drift``: make a model's reference profile, and report how far a running service is from it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.build.planner import check_stage, open_planner
from buildkit.cli.options import make_parser
from buildkit.errors import BuildError, DefinitionError
from buildkit.monitor.model_figures import ModelFigures, SignalFigures, read_models
from buildkit.report.columns import Column, print_columns
from buildkit.report.drift_chart import format_drift, render_drift
from buildkit.report.output_files import check_writable, write_text
from buildkit.report.text import sanitize_line
from buildkit.report.view import open_view
from buildkit.tools.metrics_page import fetch_page
from buildkit.tools.scrape import format_address
from buildkit.xoe_runtime.drift_profile import render_profile

_LARGEST = 16 << 20


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Make a profile, or print a report; return 1 if ``--check`` was given and a model is not known to be steady.

    Raises DefinitionError and BuildError.
    """
    options = _parse(arguments)
    return _profile(folder, options) if options.action == "profile" else _report(options)


def _profile(folder: Path, options: argparse.Namespace) -> int:
    from buildkit.inspection.drift_profile import make_drift_profile  # a report needs no podman

    check_writable(options.output)
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        stage = check_stage(planner.graph, options.stage)
        profile = make_drift_profile(planner, stage, options.data, options.program)
    write_text(options.output, render_profile(profile))
    sizes = {sketch.size for sketch in profile.signals.values()}
    sys.stderr.write(f"{options.output}: {profile.model}, {max(sizes)} values of {', '.join(profile.signals)}\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    for path in (options.svg, options.save):
        if path is not None:
            check_writable(path)
    page = fetch_page(options.url)
    since = _load_page(options.since) if options.since else ""
    try:
        models = read_models(page, since)
    except (ValueError, ArithmeticError) as error:
        raise BuildError(
            f"{format_address(options.url)}: its figures of models cannot be used: {error}",
            hint="docs/drift.md says what a service tells",
        ) from error
    if not models:
        raise BuildError(
            f"{format_address(options.url)}: it has no model_requests_total",
            hint="docs/drift.md says what a service tells",
        )
    if options.save is not None:
        write_text(options.save, page)
    if options.svg is not None:
        _draw(options.svg, models)
    if options.json:
        sys.stdout.write(json.dumps([_as_json(model) for model in models], indent=2) + "\n")
    else:
        for model in models:
            _print(model)
    return int(options.check and not all(map(_is_steady, models)))


def _is_steady(model: ModelFigures) -> bool:
    """Whether every signal is steady in the latest window; too few values and no profile are not."""
    return bool(model.signals) and all(signal.window.state == "steady" for signal in model.signals)


def _draw(path: Path, models: Sequence[ModelFigures]) -> None:
    drawn = [model for model in models if model.signals]
    if not drawn:
        raise BuildError(
            "no model has a profile, so there is nothing to draw", hint="nox -s drift -- profile STAGE DATA"
        )
    for number, model in enumerate(drawn):
        write_text(path if not number else path.with_stem(f"{path.stem}-{number + 1}"), render_drift(model))


def _load_page(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise DefinitionError(f"{path}: is too large for a page of metrics", hint="name a file of --save")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read", hint="name a file of --save") from error


def _print(model: ModelFigures) -> None:
    counted = ", ".join(f"{count} {sanitize_line(name)}" for name, count in model.requests.items())
    times = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in model.latency.items() if seconds is not None)
    sure = "" if model.confidence is None else f"confidence {model.confidence:.3f}"
    named = sanitize_line(f"{model.model} {model.version}")
    print(f"{named}: {'; '.join(filter(None, (counted, times, sure)))}")  # noqa: T201
    if not model.profile:
        print("it has no reference profile: drift is not known")  # noqa: T201
    columns = [Column(title=title) for title in ("signal", "counted", "latest window of the service")]
    rows = [(one.name, format_drift(one.drift), format_drift(one.window)) for one in model.signals]
    print_columns(columns, rows, sys.stdout)


def _as_json(model: ModelFigures) -> dict[str, Any]:
    return {
        "model": model.model,
        "version": model.version,
        "requests": dict(model.requests),
        "latency": dict(model.latency),
        "confidence": model.confidence,
        "profile": model.profile,
        "signals": [_signal_as_json(signal) for signal in model.signals],
    }


def _signal_as_json(signal: SignalFigures) -> dict[str, Any]:
    found: dict[str, Any] = {"name": signal.name, "edges": signal.reference.edges}
    for name, sketch in (("reference", signal.reference), ("counts", signal.seen)):
        found[name] = sketch.counts
    for name, drift in (("counted", signal.drift), ("window", signal.window)):
        found[name] = {"state": drift.state, **drift._asdict()}
    return found


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("drift")
    parser.description = "Compare what a model gets and says now with what it got when its reference profile was made."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    profile = actions.add_parser("profile", help="make a model's reference profile in its image")
    profile.add_argument("stage", metavar="STAGE", help="the stage whose image has the model and the program")
    profile.add_argument("data", type=Path, metavar="FOLDER", help="inputs like those to be expected")
    profile.add_argument("--output", type=Path, required=True, metavar="FILE", help="the profile to write")
    profile.add_argument(
        "--program", default="make_profile", metavar="MODULE", help="module that prints it (default: make_profile)"
    )
    report = actions.add_parser("report", help="report of a running service")
    report.add_argument("url", metavar="URL", help="the service, such as http://127.0.0.1:8000")
    report.add_argument("--since", type=Path, metavar="FILE", help="count only what came after this page of --save")
    report.add_argument("--save", type=Path, metavar="FILE", help="write the page of metrics, for --since")
    report.add_argument("--svg", type=Path, metavar="FILE", help="draw the signals")
    report.add_argument("--json", action="store_true", help="print the report as JSON")
    report.add_argument("--check", action="store_true", help="exit with 1 unless the latest window is steady")
    return parser.parse_args(list(arguments))
