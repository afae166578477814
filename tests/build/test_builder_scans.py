"""What a machine that reuses a model's layer believes of the scan by the layer's builder, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.build.builder_scans import find_builder_scans, record_builder_scans
from buildkit.build.context import BuildContext, open_context
from buildkit.build.model_gate import ModelGate
from buildkit.declare.project import parse_project
from buildkit.digest import FileHash, Key
from buildkit.errors import ModelError
from buildkit.events import Event, Note
from buildkit.plan.spec import PackModel, Spec
from buildkit.remote.cache_record import BuilderScan, CacheRecord
from buildkit.scan import rules_version
from tests.build.test_model_scanner import reused_model
from tests.remote.records import make_record


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: list[str]) -> Iterator[BuildContext]:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("buildkit.build.model_scanner.find_engines", lambda: ())

    def emit(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    with open_context(parse_project("", tmp_path), emit) as context:
        yield context


def told_of(spec: Spec, *, rules: str = "", formats: tuple[str, ...] = (), unknown: bool = False) -> CacheRecord:
    """The record of a layer whose builder found nothing in its file."""
    assert isinstance(spec.work, PackModel)
    scan = BuilderScan(spec.work.files[0].sha256, rules or rules_version(), formats, unknown=unknown)
    return make_record(key=spec.key, scans=(scan,))


def was_scanned(context: BuildContext) -> bool:
    return "scan" in context.meter.read()


def test_scan_by_the_builder_of_a_reused_layer_is_believed(
    context: BuildContext, notes: list[str], tmp_path: Path
) -> None:
    spec = reused_model(tmp_path, "weights")
    record_builder_scans(context.ledger, spec, told_of(spec, formats=("safetensors",)))
    ModelGate(context).check_reused([spec])
    assert not was_scanned(context)
    assert notes == []


def test_what_a_builder_tells_is_judged_by_the_settings_of_this_project(
    context: BuildContext, notes: list[str], tmp_path: Path
) -> None:
    spec = reused_model(tmp_path, "weights")
    record_builder_scans(context.ledger, spec, told_of(spec, unknown=True))
    ModelGate(context).check_reused([spec])
    assert notes == ["weights: unknown format, so not scanned"]
    strict = replace(context, project=replace(context.project, unscanned_models="refuse"))
    with pytest.raises(ModelError, match="could not be fully scanned"):
        ModelGate(strict).check_reused([spec])
    assert not was_scanned(context)


def test_scan_by_other_rules_is_not_believed(context: BuildContext, tmp_path: Path) -> None:
    spec = reused_model(tmp_path, "weights")
    record_builder_scans(context.ledger, spec, told_of(spec, rules="0123456789abcdef"))
    ModelGate(context).check_reused([spec])
    assert was_scanned(context)


def test_scan_by_a_builder_holds_for_its_layer_alone(context: BuildContext, tmp_path: Path) -> None:
    spec = reused_model(tmp_path, "weights")
    record_builder_scans(context.ledger, spec, told_of(spec))
    assert isinstance(spec.work, PackModel)
    with ModelGate(context) as gate:
        assert gate.task(spec, spec.work, ()) is not None, "what is packed here is scanned here"
    ModelGate(context).check_reused([replace(spec, key=Key.of(b"another layer with this file"))])
    assert was_scanned(context)


def test_scans_of_files_that_a_layer_does_not_have_are_not_kept(context: BuildContext, tmp_path: Path) -> None:
    spec, other = reused_model(tmp_path, "weights"), reused_model(tmp_path, "other")
    record_builder_scans(context.ledger, spec, told_of(other))
    record_builder_scans(context.ledger, replace(other, key=spec.key), told_of(other, rules="0" * 16))
    ModelGate(context).check_reused([replace(other, key=spec.key)])
    assert was_scanned(context)


def test_builder_tells_what_it_scanned_itself_and_found_nothing_in(context: BuildContext, tmp_path: Path) -> None:
    spec, told = reused_model(tmp_path, "weights"), reused_model(tmp_path, "told")
    hostile = reused_model(tmp_path, "hostile")
    assert isinstance(hostile.work, PackModel)
    pickle = b"cos\nsystem\n(S'true'\ntR."
    (tmp_path / "hostile").write_bytes(pickle)
    file = replace(hostile.work.files[0], sha256=FileHash.of(pickle), size=len(pickle))
    hostile = replace(hostile, work=replace(hostile.work, files=(file,)))
    record_builder_scans(context.ledger, told, told_of(told))
    ModelGate(context).check_reused([spec, told])
    with pytest.raises(ModelError):
        ModelGate(context).check_reused([hostile])
    assert find_builder_scans(context, spec) == told_of(spec, unknown=True).scans
    assert find_builder_scans(context, told) == ()
    assert find_builder_scans(context, hostile) == ()
