"""The gate of a build: a model is packed while other scanners still read it, and kept when they have passed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.build.context import BuildContext, open_context
from buildkit.build.model_gate import ModelGate
from buildkit.declare.project import parse_project
from buildkit.errors import ModelError
from buildkit.events import ignore_event
from buildkit.plan.spec import PackModel, Spec
from buildkit.scan import rules_version
from buildkit.store.scan_verdicts import ScanVerdicts
from buildkit.tools.opinion_engines import Engine
from tests.build.test_model_scanner import reused_model

_ENGINE = """
import time
from pathlib import Path
from types import SimpleNamespace as Some

def scan_file_path(path):
    while not Path({answer!r}).exists():
        time.sleep(0.01)
    bad = Path({answer!r}).read_text() == "unsafe"
    used = [Some(module="os", name="system", safety=Some(value="dangerous"))] if bad else []
    return Some(issues_count=len(used), globals=used, scan_err=False, scanned_files=1)
"""


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The other scanner's answer, for which it waits."""
    answer = tmp_path / "answer"
    (tmp_path / "picklescan").mkdir()
    (tmp_path / "picklescan/__init__.py").touch()
    (tmp_path / "picklescan/scanner.py").write_text(_ENGINE.format(answer=str(answer)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.model_scanner.find_engines", lambda: (Engine(name="picklescan", version="0"),))
    return answer


@pytest.fixture
def context(answer: Path, tmp_path: Path) -> Iterator[BuildContext]:
    with open_context(parse_project("", tmp_path), ignore_event) as context:
        yield context


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return reused_model(tmp_path, "weights")


def scan(gate: ModelGate, spec: Spec) -> None:
    assert isinstance(spec.work, PackModel)
    task = gate.task(spec, spec.work, ())
    assert task is not None
    task.action()


def is_known(context: BuildContext, spec: Spec) -> bool:
    assert isinstance(spec.work, PackModel)
    hashes, rules = [file.sha256 for file in spec.work.files], rules_version({"opinion of picklescan 0"})
    return bool(ScanVerdicts(context.ledger).find(hashes, rules))


def test_scan_ends_before_others_answer_and_settling_waits_for_them(
    context: BuildContext, spec: Spec, answer: Path
) -> None:
    with ModelGate(context) as gate:
        scan(gate, spec)
        assert not is_known(context, spec), "the other scanner still reads"
        answer.write_text("safe")
        gate.settle(spec)
        assert is_known(context, spec)
        gate.settle(spec)


def test_what_others_find_refuses_the_model(context: BuildContext, spec: Spec, answer: Path) -> None:
    with ModelGate(context) as gate:
        scan(gate, spec)
        answer.write_text("unsafe")
        with pytest.raises(ModelError, match="engines-disagree"):
            gate.settle(spec)


def test_model_that_nobody_packs_is_refused_at_the_end(context: BuildContext, spec: Spec, answer: Path) -> None:
    with (  # noqa: PT012 - that it fails on leaving, not before, is the point
        pytest.raises(ModelError, match="engines-disagree"),
        ModelGate(context) as gate,
    ):
        scan(gate, spec)
        answer.write_text("unsafe")


def test_failure_of_the_build_is_not_replaced_by_a_refusal(context: BuildContext, spec: Spec, answer: Path) -> None:
    with pytest.raises(ZeroDivisionError), ModelGate(context) as gate:  # noqa: PT012
        scan(gate, spec)
        answer.write_text("unsafe")
        raise ZeroDivisionError
