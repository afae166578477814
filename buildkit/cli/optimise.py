"""The session ``optimise``: compare variants of a model, and write the chosen one as a derived model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.planner import open_planner
from buildkit.cli.derive import add_seconds_argument
from buildkit.cli.options import add_jobs_argument, make_parser
from buildkit.cli.tracing import traced
from buildkit.declare.schema import suggest_word
from buildkit.errors import DefinitionError
from buildkit.locks.derivation import DeriveGate, check_gate_words
from buildkit.locks.derive_schema import OPTIMISER
from buildkit.plan.derive_report import format_number, format_time
from buildkit.report.output_files import check_writable, write_text
from buildkit.report.table import print_table
from buildkit.report.variant_chart import VariantPoint, render_variants
from buildkit.report.view import open_view
from buildkit.resolve.derive import DeriveSession, ModelsBook, find_books
from buildkit.resolve.optimise import (
    VARIANTS,
    ModelVariant,
    OptimiseRequest,
    compare_variants,
    find_book,
    write_variant,
)

_TITLES = ("variant", "metric", "bytes", "call", "time of a call", "load", "verdict")


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Compare, print, and write what was asked for; raises DefinitionError and BuildError."""
    options = _parse(arguments)
    if options.svg is not None:
        check_writable(options.svg)  # before the work, not after it
    with (
        open_view(sys.stderr) as emit,
        traced(folder, "optimise", (), emit) as recorder,
        open_planner(folder, emit) as planner,
    ):
        planner.context.meter.recorder = recorder
        session = DeriveSession(planner, jobs=options.jobs, seconds=options.seconds)
        book = find_book(find_books(planner), options.model)
        request = _make_request(options, book)
        variants = compare_variants(planner, session, book, request, options.jobs)
    _print(options, variants)
    if options.svg is not None:
        write_text(options.svg, _draw(options.model, request.gate, variants))
    if options.write:
        _write(folder, book, options, variants)


def _make_request(options: argparse.Namespace, book: ModelsBook) -> OptimiseRequest:
    """Return what is compared; what is not said is taken from a ``[[derive]]`` of the same model."""
    known = next((one.derivation for one in book.asked.derived if one.derivation.of == options.model), None)
    like = known.gate if known and known.gate else DeriveGate(max_loss=0.01)
    gate = DeriveGate(
        data=options.data or like.data,
        metric=options.metric or like.metric,
        better=options.better or like.better,
        max_loss=like.max_loss if options.max_loss is None else options.max_loss,
        max_size=like.max_size if options.max_size is None else options.max_size,
        max_latency=like.max_latency if options.max_latency is None else options.max_latency,
    )
    if not (gate.data and gate.metric):
        hint = "such as --data path:evaluation --metric evaluation/accuracy.py:f1"
        raise DefinitionError(f"nothing says how good a variant of {options.model} is", hint=hint)
    check_gate_words(gate)
    stage = options.stage or (known.stage if known else OPTIMISER)
    names = tuple(dict.fromkeys(options.only)) or tuple(VARIANTS)
    return OptimiseRequest(model=options.model, gate=gate, stage=stage, variants=names)


def _print(options: argparse.Namespace, variants: Sequence[ModelVariant]) -> None:
    if options.json:
        sys.stdout.write(json.dumps([one.as_json() for one in variants], indent=2) + "\n")
        return
    print_table(f"{options.model}: variants", _TITLES, [_row(one) for one in variants], sys.stdout)


def _row(variant: ModelVariant) -> tuple[str, ...]:
    report = variant.report
    if report is None:
        return (variant.name, "", "", "", "", "", f"failed: {variant.error}")
    ratios = [f"{ratio:.2f}" if ratio is not None else "" for ratio in (report.latency_ratio, report.load_ratio)]
    verdict = "passes" if variant.is_good else f"refused: {'; '.join(variant.failures)}"
    metric, size = format_number(report.derived.metric), f"{report.size_ratio:.2f}"
    return (variant.name, metric, size, format_time(report.derived.latency), *ratios, verdict)


def _draw(model: str, gate: DeriveGate, variants: Sequence[ModelVariant]) -> str:
    reports = [(one, one.report) for one in variants if one.report]
    points = [
        VariantPoint(
            name=one.name,
            metric=report.derived.metric or 0.0,
            latency=report.latency_ratio or 1.0,
            size=report.size_ratio,
            passes=one.is_good,
        )
        for one, report in reports
    ]
    if reports:
        metric = reports[0][1].source.metric or 0.0
        points.append(VariantPoint(name=model, metric=metric, latency=1.0, size=1.0, passes=True))
    return render_variants(f"Variants of {model}", gate.metric, points)


def _write(folder: Path, book: ModelsBook, options: argparse.Namespace, variants: Sequence[ModelVariant]) -> None:
    chosen = next((one for one in variants if one.name == options.write), None)
    if chosen is None or not chosen.is_good:
        good = [one.name for one in variants if one.is_good]
        why = "was not compared" if chosen is None else "does not pass"
        hint = suggest_word(options.write, good) or f"those that pass: {', '.join(good) or 'none'}"
        raise DefinitionError(f"`{options.write}` {why}, so it is not written", hint=hint)
    name = options.name or f"{options.model}-{chosen.name}"
    write_variant(folder, book, chosen, name)
    sys.stderr.write(f"{book.file}: + {name}\n")
    with open_view(sys.stderr) as emit, open_planner(folder, emit) as planner:
        session = DeriveSession(planner, jobs=options.jobs, seconds=options.seconds)
        for _ in session.derive(find_books(planner), (name,)):
            pass  # the lock is written with it


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("optimise")
    parser.add_argument("model", metavar="MODEL", help="a locked ONNX model")
    parser.add_argument("--metric", default="", metavar="PATH.py:FUNCTION", help="function (model, folder) → number")
    parser.add_argument("--data", default="", metavar="path:FOLDER|MODEL", help="what the metric is computed over")
    parser.add_argument("--better", choices=("higher", "lower"), default="", help="which numbers are better")
    for limit, what in (("loss", "of the metric (default: 0.01)"), ("size", "as a ratio"), ("latency", "as a ratio")):
        parser.add_argument(f"--max-{limit}", type=_parse_limit, metavar="N", help=f"most {limit} that passes, {what}")
    parser.add_argument("--stage", default="", metavar="STAGE", help=f"where tools run (default: {OPTIMISER})")
    parser.add_argument("--only", action="append", default=[], choices=tuple(VARIANTS), help="a variant; repeatable")
    parser.add_argument("--json", action="store_true", help="print the variants as JSON")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw accuracy, time and bytes")
    parser.add_argument(
        "--write", default="", metavar="VARIANT", help="add it to models.toml as [[derive]], and lock it"
    )
    parser.add_argument("--name", default="", metavar="NAME", help="the name of the derived model")
    add_seconds_argument(parser)
    add_jobs_argument(parser)
    return parser.parse_args(list(arguments))


def _parse_limit(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, not {text!r}")
    return number
