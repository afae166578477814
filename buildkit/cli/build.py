"""The sessions ``build``, ``build-STAGE`` and ``push-STAGE``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.build.options import BuildOptions
from buildkit.cli.building import build
from buildkit.cli.options import parse_build_options


def run(folder: Path, arguments: Sequence[str]) -> None:
    """Build every stage that ships. Raises DefinitionError, BuildError and Interrupted, as the others here."""
    _build(folder, None, parse_build_options(arguments))


def run_build(folder: Path, stage: str, arguments: Sequence[str]) -> None:
    """Build one stage."""
    _build(folder, stage, parse_build_options(arguments, stage))


def run_push(folder: Path, stage: str, arguments: Sequence[str]) -> None:
    """Build one stage and push its image; local storage stays as it is."""
    _build(folder, stage, parse_build_options(arguments, stage, push=True))


def _build(folder: Path, stage: str | None, options: BuildOptions) -> None:
    from buildkit.report.build_report import render_next
    from buildkit.report.output_files import check_writable, write_text

    if options.json is not None:
        check_writable(options.json)  # before the work, not after it
    if options.summary is not None:
        check_writable(options.summary, append=True)
    reports = build(folder, (stage,) if stage else (), options)
    if following := render_next(reports):
        sys.stderr.write(f"{following}\n")
    if options.json is not None:
        value = [report.as_json() for report in reports]
        if stage:
            value = _join_models(value, stage)
        write_text(options.json, json.dumps(value[0] if stage and len(value) == 1 else value, indent=2) + "\n")
    if options.summary is not None:
        from buildkit.report.build_markdown import render_markdown

        write_text(options.summary, "".join(map(render_markdown, reports)), append=True)


def _join_models(reports: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Return the reports of a stage, of one processor each; each has that of the models which its containers mount."""
    own = [report for report in reports if report["stage"] == stage]
    mounted = [report for report in reports if report["stage"] != stage]
    return [report | {"models": models} for report, models in zip(own, mounted, strict=True)] if mounted else own
