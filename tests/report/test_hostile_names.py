"""One hostile name through everything that prints names: it stays in its line, and steers neither terminal nor CI."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buildkit import sessions
from buildkit.cli.guard import print_error
from buildkit.cli.session_list import outline_stage
from buildkit.declare.stage import Running
from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus
from buildkit.doctor.render import render_text
from buildkit.errors import BuildError, DefinitionError, Problem
from buildkit.events import Note, StepFailed, StepFinished, StepStarted
from buildkit.findings import Finding, Rule, Severity
from buildkit.inspection import audit_deps as auditdeps
from buildkit.inspection import explain
from buildkit.inspection import scan_models as scan
from buildkit.inspection import verify_image as verify
from buildkit.inspection.scan_run import UnreadableFile
from buildkit.inspection.scan_targets import ScanTarget
from buildkit.oci.reference import parse_ref
from buildkit.plan.plan import LayerSource
from buildkit.remote.verification import AttachmentVerdict, VerdictState
from buildkit.report.build_markdown import render_markdown
from buildkit.report.build_report import LayerLine, Report, print_report
from buildkit.report.columns import Column, print_columns
from buildkit.report.findings_table import render_findings
from buildkit.report.graph_tree import render_tree
from buildkit.report.live import LiveView, draw_table, print_lines
from buildkit.report.plain import PlainView
from buildkit.report.sarif import SarifRun, render_sarif
from buildkit.running.flags import ContainerSpec
from buildkit.running.quadlet import render_quadlet
from buildkit.tools.auditor import Vulnerability
from tests.report.pictures import hostile

NAME = "a\n::error::b\r\n[Service]\nerror: c\x1b[31m\x1b]0;t\x07\x9b1m\u202ed\u2066\u2028e\udcff\ud800\x00f"
DECEIVING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
FORGED = re.compile(r"^\s*(?:::error|error: c)", re.MULTILINE)
RULE = Rule(id="x-y", title=NAME, severity=Severity.HIGH, why=NAME, advice=NAME, references=(NAME,))
FOUND = Finding(rule=RULE, what=NAME, path=NAME, member=NAME, layer=NAME, offset=1)
COLUMNS = (Column(title="name"), Column(title="why"))


def printed(show: Callable[[io.StringIO], object]) -> str:
    out = io.StringIO()
    show(out)
    return out.getvalue()


def events(view: Any) -> None:
    view(StepStarted(step=NAME, phase="pack", total=None))
    view(StepFinished(step=NAME, phase="pack", seconds=1.0, size=1, note=NAME))
    view(StepStarted(step=NAME, phase="pack", total=3))
    view(StepFailed(step=NAME, phase="pack", message=NAME))
    view(Note(text=NAME, warning=True))


def live() -> str:
    out = io.StringIO()
    view = LiveView(out)
    try:
        events(view)
    finally:
        view.close()
    return out.getvalue()


def report() -> Report:
    layer = LayerLine(
        name=NAME, kind="x", key="k", diff_id="i", digest="d", size=1, source="built", seconds=1.0, why=NAME
    )
    names = {"stage": NAME, "image": NAME, "digest": "d", "pushed_as": {NAME: NAME}}
    return Report(**names, seconds=1.0, phases={}, layers=(layer,), fetched=0, built=1, imported=0)


def explained() -> str:
    derivation = SimpleNamespace(of=NAME, tool=NAME, settings=(NAME,), options=NAME, report=((NAME, NAME),))
    layer = SimpleNamespace(
        derived=SimpleNamespace(derivation=derivation, report=None),
        entry=SimpleNamespace(spec=SimpleNamespace(name=NAME), source=LayerSource.STORAGE),
        causes=(), tool=False, again=True, below=NAME, built=explain.BuiltRecord(at=0, stage=NAME, why=NAME),
    )  # fmt: skip
    explanation = SimpleNamespace(stage="x", layers=(layer,), delivered="imported")
    return printed(lambda out: explain.print_explanation(explanation, out))  # type: ignore[arg-type]


def advisories() -> str:
    one = Vulnerability(id=NAME, name=NAME, version=NAME, summary=NAME, aliases=(NAME,), fixed=(NAME,), link=NAME)
    scope = auditdeps.Scope(pins={}, left_out=((NAME, 1, NAME),))
    return "\n".join(auditdeps.render(scope, [one, one], [], None) + auditdeps.render(scope, [one], [one], None))


def verdict() -> str:
    image = verify.RegistryImage(ref=parse_ref("localhost:5/x", "x"), manifest=b"x", config=b"", layers=())
    proofs = tuple(AttachmentVerdict(kind="sbom", state=state, why=NAME) for state in VerdictState)
    found = verify.ImageVerification(
        image=image, stage="x", layers=(), absent=(NAME,), unknown=(NAME,), config=False, manifest=False, proofs=proofs
    )
    return "\n".join(verify.render_verdict(found))


def accepted() -> str:
    unread = UnreadableFile(target=ScanTarget(name=NAME), why=NAME)
    return printed(lambda out: scan.print_outcomes([unread], out))


def problems(count: int) -> str:
    wrong = [Problem(file=f"{NAME}{number}", key=NAME, what=NAME, hint=NAME) for number in range(count)]
    return error(DefinitionError.of(wrong))


def error(wrong: BuildError | DefinitionError) -> str:
    out = io.StringIO()
    with redirect_stderr(out):
        print_error(wrong)
    return out.getvalue()


def sarif() -> str:
    text = render_sarif([FOUND], SarifRun.of("audit", subject=NAME))
    messages: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            messages.extend(str(value[key]) for key in ("text", "markdown") if key in value)
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(one)

    collect(json.loads(text))
    assert messages
    return "\n".join(messages).replace("\n", " ")


def listed() -> str:
    written = json.dumps(f"{NAME.splitlines()[0]}\x1b[31m\u202e")
    path = SimpleNamespace(read_text=lambda *_, **__: f"summary = {written}")
    return outline_stage(path).summary  # type: ignore[arg-type]


PLACES: dict[str, Callable[[], str]] = {
    "columns": lambda: printed(lambda out: print_columns(COLUMNS, [(NAME, NAME)], out)),
    "table on a terminal": lambda: printed(lambda out: draw_table(NAME, COLUMNS, [(NAME, NAME)], out)),
    "plain lines": lambda: printed(lambda out: events(PlainView(out))),
    "live lines": live,
    "report": lambda: printed(lambda out: print_report(report(), out)),
    "Markdown": lambda: render_markdown(report()),
    "tree": lambda: printed(lambda out: print_lines(render_tree(hostile()), out)),
    "explain": explained,
    "findings": lambda: "\n".join(render_findings([FOUND])),
    "SARIF": sarif,
    "scan-models": accepted,
    "audit-deps": advisories,
    "verify-image": verdict,
    "doctor": lambda: render_text(
        [Diagnosis(id="x", status=DiagnosisStatus.ERROR, what=NAME, cost=NAME, mend=NAME)], width=80, colour=False
    ),
    "a problem": lambda: problems(1),
    "problems": lambda: problems(3),
    "an error": lambda: error(BuildError(NAME, hint=NAME)),
    "a unit": lambda: "".join(
        text
        for _, text in render_quadlet(ContainerSpec(image="x", name="x", running=Running(), user=NAME, command=(NAME,)))
    ),
    "list of sessions": listed,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_hostile_name_adds_no_line_escape_or_command_to_the_output(place: str) -> None:
    text = PLACES[place]()
    found = DECEIVING.search(text)
    assert not found, ascii(text)
    assert not FORGED.search(text), ascii(text)
    sections = re.findall(r"^\[Service\]", text, re.MULTILINE)
    assert len(sections) == (place == "a unit"), "no section of a unit begins in a name"
    text.encode()


def test_folders_with_control_characters_get_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(sessions, "_add_session", lambda session, *_: names.append(session.name))
    for folder in ("good", "a\nb", "c\x1b[31m"):
        (tmp_path / "stages" / folder).mkdir(parents=True)
        (tmp_path / "stages" / folder / "stage.toml").write_text('summary = "x"\n')
    sessions.register(tmp_path)
    assert "build-good" in names
    assert all(name.isprintable() for name in names)
