"""Audit an image, at rest and running, and render the findings as a table and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from buildkit.audit.audit import check_image
from buildkit.audit.service import find_base_pin
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.build.image_sources import open_image, read_view
from buildkit.build.planner import Planner
from buildkit.declare.audit_file import AuditAcceptance, load_acceptances
from buildkit.errors import BuildError, DefinitionError
from buildkit.events import step
from buildkit.findings import Finding, Severity
from buildkit.report.findings_table import (
    findings_json,
    format_finding_counts,
    format_severity,
    render_findings,
)
from buildkit.report.text import format_bytes, format_count
from buildkit.tools.skopeo import TRANSPORTS

NEVER = "never"


AT_REST, RUNNING = "at rest", "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The findings in an image, and which parts of it were examined.

    ``accepted`` are findings that the stages accept, each with the reason; they are not in ``findings``. ``idle`` are
    acceptances that were for nothing. ``parts`` are the requested ones, each with the reason why it could not be
    examined, else an empty text. ``view`` is what was read of the image; None if it was only started.
    """

    name: str
    findings: tuple[Finding, ...]
    parts: Mapping[str, str]
    view: ImageView | None = None
    accepted: tuple[tuple[Finding, str], ...] = ()
    idle: tuple[AuditAcceptance, ...] = ()

    def closes(self, gate: Severity | None) -> bool:
        """Return whether a finding reaches ``gate``, or a requested part could not be examined, which is not a pass."""
        unknown = any(self.parts.values())
        return unknown or (gate is not None and any(finding.severity >= gate for finding in self.findings))

    def as_json(self, gate: Severity | None) -> dict[str, Any]:
        """Return the form that docs/audit.md describes."""
        return {
            "image": self.name,
            "parts": {part: why or None for part, why in self.parts.items()},
            **(_view_json(self.view) if self.view is not None else {}),
            "findings": findings_json(self.findings),
            "accepted": [
                {**entry, "reason": reason} for finding, reason in self.accepted for entry in findings_json((finding,))
            ],
            "fail_on": format_severity(gate) if gate is not None else NEVER,
            "failed": self.closes(gate),
        }


def _view_json(view: ImageView) -> dict[str, Any]:
    return {
        "stage": view.origin.stage or None,
        "pinned": find_base_pin(view) or None,
        "user": view.config.user or None,
        "files": len(view.files),
        "bytes": sum(layer.unpacked for layer in view.layers),
        "not_searched_to_the_end": sum(layer.cut for layer in view.layers),
        "layers": [
            {"digest": layer.digest, "bytes": layer.unpacked, "members": len(layer.entries)} for layer in view.layers
        ],
    }


def audit_target(planner: Planner, target: str, parts: Sequence[str]) -> Audit:
    """Examine the requested parts of an image, each once. Of a stage, findings that it accepts are set aside.

    So are those that the stages accept on which it stands. Raises DefinitionError and BuildError.
    """
    stages: tuple[str, ...] = ()
    if target in planner.graph.stages:
        stages = tuple(part.name for part in planner.graph.resolve(target).parts)
    acceptances = load_acceptances(planner.context.project.folder, stages)
    return accept_findings(_examine(planner, target, parts), acceptances)


def accept_findings(audit: Audit, acceptances: Sequence[AuditAcceptance]) -> Audit:
    """Return the audit with the findings set aside that are accepted."""
    reasons = {
        finding: found.reason
        for finding in audit.findings
        if (found := next((one for one in acceptances if one.covers(finding)), None))
    }
    examined = all(not why for why in audit.parts.values()) and {AT_REST, RUNNING} <= audit.parts.keys()
    idle = [one for one in acceptances if not any(one.covers(finding) for finding in audit.findings)]
    return replace(
        audit,
        findings=tuple(finding for finding in audit.findings if finding not in reasons),
        accepted=tuple(reasons.items()),
        idle=tuple(idle) if examined else (),  # what was not examined may have what is accepted
    )


def _examine(planner: Planner, target: str, parts: Sequence[str]) -> Audit:
    if AT_REST not in parts:
        findings, why = _run(planner, target)
        return Audit(name=target, findings=findings, parts={RUNNING: why})
    with step(planner.context.emit, target, "audit") as progress:
        with open_image(planner, target) as image:
            view, stored = read_view(image, planner.context), image.stored
        findings = check_image(view)
        progress.size = sum(layer.unpacked for layer in view.layers)
    reasons = {AT_REST: ""}
    if RUNNING in parts:
        if target in planner.graph.stages and not stored:
            reasons[RUNNING] = f"local storage does not have this image: nox -s build-{target}"
        else:
            more, reasons[RUNNING] = _run(planner, target)
            findings += more
    return Audit(name=target, findings=findings, parts=reasons, view=view)


def _run(planner: Planner, target: str) -> tuple[tuple[Finding, ...], str]:
    """Return the findings in a container of the image, or why there is none."""
    from buildkit.inspection.container_probe import audit_running

    transport, _, rest = target.partition(":")
    if transport == "containers-storage" or target.startswith("docker://"):
        target = rest.removeprefix("//")
    elif transport in TRANSPORTS:
        hint = f"copy it into local storage first: skopeo copy {target} containers-storage:NAME"
        raise DefinitionError(f"{target}: an image of a layout or an archive is not started", hint=hint)
    try:
        return audit_running(planner, target), ""
    except BuildError as error:
        return (), error.in_a_line()


def render_audit(audit: Audit, gate: Severity | None) -> list[str]:
    """Return lines: findings with reasons, what was examined, and the totals."""
    lines = render_findings(audit.findings)
    lines += [""] * bool(lines)
    examined = " and ".join(part for part, why in audit.parts.items() if not why) or "nothing of it"
    lines.append(f"{format_untrusted(audit.name)}, {examined}")
    if audit.view is not None:
        lines += _format_view(audit.view)
    lines += [f"not looked at {part}: {format_untrusted(why, 1000)}" for part, why in audit.parts.items() if why]
    lines += [
        f"accepted: {finding.rule.id}: {format_untrusted(finding.path or finding.what)} ({format_untrusted(reason)})"
        for finding, reason in audit.accepted
    ]
    lines += [f"nothing needs what {one.file} accepts: {one.rule} {one.path}".rstrip() for one in audit.idle]
    lines.append(_format_sum(audit, gate))
    return lines


def _format_view(view: ImageView) -> Iterator[str]:
    size = sum(layer.unpacked for layer in view.layers)
    yield f"{format_bytes(size)} in {format_count(len(view.layers), 'layer')}, {format_count(len(view.files), 'file')}"
    for name, other in view.origin.peers:
        yield f"{size / other:.0%} of the bytes of {name} ({format_bytes(other)})"
    if cut := sum(layer.cut for layer in view.layers):
        yield f"{format_count(cut, 'large text')} searched for secrets in the first 64 MiB alone"


def _format_sum(audit: Audit, gate: Severity | None) -> str:
    counts = format_finding_counts(audit.findings)
    if gate is None or not audit.closes(gate):
        return counts
    if any(audit.parts.values()):
        return f"{counts}: fails"
    return f"{counts}: fails, for {format_severity(gate)} and worse do"
