"""``nox -s audit``: what is wrong with an image, at rest and running, as a table, JSON and SARIF."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.audit.audit import check_image
from buildkit.audit.service import say_pinned
from buildkit.audit.view import ImageView, show
from buildkit.engine.images import FoundImage, open_image, read_view
from buildkit.engine.main import check_writable, write_text
from buildkit.engine.options import Parser
from buildkit.engine.planning import Planner, open_planner
from buildkit.events import StepFinished, StepStarted
from buildkit.findings import Finding, Severity
from buildkit.report.findings import (
    findings_json,
    parse_severity,
    render_findings,
    say_counts,
    say_severity,
)
from buildkit.report.view import open_view
from buildkit.report.words import say_bytes, say_count

NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """An image, what was found in it, and which parts were looked at (``at rest``, ``running``).

    ``parts`` says of a part that could not be looked at why, and of one that was nothing: a part that is not there was
    not asked for.
    """

    view: ImageView
    findings: tuple[Finding, ...]
    parts: Mapping[str, str]

    def closes(self, gate: Severity | None) -> bool:
        """Whether a finding is so bad, or a part that was asked for could not be looked at."""
        unknown = any(self.parts.values())
        return unknown or (gate is not None and any(one.severity >= gate for one in self.findings))

    def as_json(self, gate: Severity | None) -> dict[str, Any]:
        """As docs/audit.md describes it."""
        view = self.view
        return {
            "image": view.name,
            "stage": view.origin.stage or None,
            "parts": dict(self.parts),
            "pinned": say_pinned(view) or None,
            "user": view.config.user or None,
            "files": len(view.files),
            "bytes": sum(layer.unpacked for layer in view.layers),
            "not_searched_to_the_end": sum(layer.cut for layer in view.layers),
            "layers": [
                {"digest": layer.digest, "bytes": layer.unpacked, "members": len(layer.entries)}
                for layer in view.layers
            ],
            "findings": findings_json(self.findings),
            "fail_on": say_severity(gate) if gate is not None else NEVER,
            "failed": self.closes(gate),
        }


def audit(folder: Path, arguments: Sequence[str]) -> int:
    """Print what is found; returns 1 where the gate closes, else 0. Raises DefinitionError and BuildError."""
    options = _parse(arguments)
    if options.sarif is not None:
        check_writable(options.sarif)
    with open_view(sys.stderr) as say, open_planner(folder, say) as planner:
        began = time.monotonic()
        say(StepStarted(step=options.target, phase="audit"))
        with open_image(planner, options.target) as image:
            found = look(planner, image, options)
        size = sum(layer.unpacked for layer in found.view.layers)
        say(StepFinished(step=options.target, phase="audit", seconds=time.monotonic() - began, size=size))
    if options.sarif is not None:
        write_text(options.sarif, _sarif(found))
    if options.json:
        sys.stdout.write(json.dumps(found.as_json(options.fail_on), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(render_audit(found, options.fail_on)) + "\n")
    return int(found.closes(options.fail_on))


def look(planner: Planner, image: FoundImage, options: argparse.Namespace) -> Audit:
    """Read the image once, and check what was asked for."""
    view = read_view(image, planner.shop)
    parts: dict[str, str] = {}
    findings: list[Finding] = []
    if not options.running:
        parts["at rest"] = ""
        findings += check_image(view)
    return Audit(view=view, findings=tuple(findings), parts=parts)


def render_audit(found: Audit, gate: Severity | None) -> list[str]:
    """The lines for people: findings with reasons, what was looked at, and the sum."""
    view = found.view
    lines = render_findings(found.findings)
    lines += [""] * bool(lines)
    size = sum(layer.unpacked for layer in view.layers)
    layers = say_count(len(view.layers), "layer")
    lines.append(
        f"{show(view.name)}: {say_bytes(size)} in {layers}, {len(view.files)} files; {' and '.join(found.parts)}"
    )
    for name, other in view.origin.peers:
        lines.append(f"{size / other:.0%} of the bytes of {name} ({say_bytes(other)})")
    if cut := sum(layer.cut for layer in view.layers):
        lines.append(f"{say_count(cut, 'large text')} searched for secrets in the first 64 MiB alone")
    lines += [f"not looked at {part}: {why}" for part, why in found.parts.items() if why]
    lines.append(_say_sum(found, gate))
    return lines


def _say_sum(found: Audit, gate: Severity | None) -> str:
    said = say_counts(found.findings)
    if gate is None or not found.closes(gate):
        return said
    return (
        f"{said}: fails, for {say_severity(gate)} and worse do" if not any(found.parts.values()) else f"{said}: fails"
    )


def _sarif(found: Audit) -> str:
    from buildkit.report.sarif import SarifRun, render_sarif

    says = "the root of the image's file system"
    run = SarifRun.of("audit", base="IMAGE", base_says=says, inside=True, subject=found.view.name)
    return render_sarif(found.findings, run)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="nox -s audit --")
    parser.add_argument("target", metavar="STAGE|REF", help="a stage, or an image: its name, or oci:FOLDER")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write the findings as SARIF 2.1.0")
    parser.add_argument(
        "--fail-on", type=_gate, default=Severity.HIGH, metavar="SEVERITY",
        help="exit 1 for findings so bad: critical, high (unless said), medium, low, note, or never",
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--at-rest", action="store_true", help="read the image, start nothing")
    how.add_argument("--running", action="store_true", help="start a container and look at that alone")
    return parser.parse_args(list(arguments))


def _gate(text: str) -> Severity | None:
    if text.lower() == NEVER:
        return None
    try:
        return parse_severity(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
