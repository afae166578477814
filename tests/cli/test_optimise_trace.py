"""The trace of a session that compares variants of a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from buildkit.bench.scale import make_project
from buildkit.build.planner import Planner
from buildkit.cli import optimise
from buildkit.errors import DefinitionError
from tests.otlpcollector import serve_collector


def test_a_comparison_is_one_trace_of_what_it_did_also_if_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_books(planner: Planner) -> tuple[()]:
        with planner.context.meter.phase("measure", "vad"):
            return ()

    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(optimise, "find_books", find_books)
    make_project(tmp_path / "project", 1, 0, 0)
    with serve_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with pytest.raises(DefinitionError, match="there is no locked model `vad`"):
            optimise.run(tmp_path / "project", ["vad"])
    spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {"optimise", "measure vad"}
    assert spans["measure vad"].parent_span_id == spans["optimise"].span_id
    assert spans["optimise"].status.code == Status.STATUS_CODE_ERROR
    assert collector.resource["xoe.project"] == "scale"
