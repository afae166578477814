"""Builds as traces: a real collector gets the session, stages, tasks and layers; without one nothing changes."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.e2e.tinyproject import Tiny
from tests.otlpcollector import attributes, serve_collector

ERROR = Status.STATUS_CODE_ERROR

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]


def test_build_is_one_trace_of_session_stages_tasks_and_layers(tiny: Tiny, registry: str) -> None:
    with serve_collector() as collector:
        tiny.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        first = tiny.build("app", "--push", f"{registry}/traced:1")
        spans, resource = collector.spans, collector.resource
        collector.requests.clear()
        tiny.build("app")
        again = collector.spans
        collector.requests.clear()
        tiny.replace("stages/tools/stage.toml", "mkdir -p /opt/tools", "exit 3 # https://hunter2@host")
        failed = tiny.run("build-tools", OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20hunter2")
        failing = collector.spans
    assert first.code == 0, first.text
    assert first.report is not None
    assert (resource["service.name"], resource["xoe.project"], resource["xoe.stage"]) == ("xoe-buildkit", "tiny", "app")
    by_id = {span.span_id: span for span in spans}
    (root,) = (span for span in spans if not span.parent_span_id)
    assert root.name == "push-app"
    assert {span.trace_id for span in spans} == {root.trace_id}
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span is not root:
            around = by_id[span.parent_span_id]
            assert around.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= around.end_time_unix_nano
    (stage,) = (span for span in spans if span.name == "stage app")
    assert by_id[stage.parent_span_id] is root
    took = (stage.end_time_unix_nano - stage.start_time_unix_nano) / 1e9
    assert first.report["seconds"] - 0.1 <= took <= first.report["seconds"] + 1
    assert attributes(stage.attributes)["xoe.image.digest"] == first.report["digest"]

    layers = {
        key["xoe.layer.key"]: (span, key) for span in spans if "xoe.layer.key" in (key := attributes(span.attributes))
    }
    for line in first.report["layers"]:
        span, about = layers[line["key"]]
        assert (about["xoe.layer.name"], about["xoe.layer.source"]) == (line["name"], line["source"])
        assert about["xoe.lane"] in {"cpu", "net", "container"}
        if line["source"] == "built":
            assert (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 >= line["seconds"] * 0.5
    phases = {attributes(span.attributes).get("xoe.phase") for span in spans}
    assert {"plan", "fetch", "pack", "assemble", "push"} <= phases
    assert any(span.name == f"push {registry}/traced:1" for span in spans)

    reused = [about for span in again if "xoe.layer.key" in (about := attributes(span.attributes))]
    assert {about["xoe.layer.key"] for about in reused} == {line["key"] for line in first.report["layers"]}
    assert {about["xoe.layer.source"] for about in reused} <= {"storage", "cache"}

    assert failed.code == 1, failed.text
    names = {span.span_id: span.name for span in failing}
    broken = {span.name: names.get(span.parent_span_id, "") for span in failing if span.status.code == ERROR}
    assert broken == {"build-tools": "", "stage tools": "build-tools", "run tools/write": "stage tools"}
    (root,) = (span for span in failing if not span.parent_span_id)
    assert "exit 3 # https://host cat" in root.status.message
    assert "failed with exit code 3" in root.status.message
    assert collector.headers[-1]["authorization"] == "Bearer hunter2"
    assert b"hunter2" not in collector.requests[-1].SerializeToString()


def test_builds_succeed_with_one_warning_where_they_cannot_be_traced(tiny: Tiny) -> None:
    with tiny.after("import atexit, sys\natexit.register(lambda: print('otel:', 'opentelemetry' in sys.modules))\n"):
        untraced = tiny.build("app", "--no-import")
    assert "otel: False" in untraced.text
    with serve_collector() as collector:
        pass  # its port is closed now
    tiny.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "500"}
    lost = tiny.build("app", "--no-import")
    assert lost.text.count("the trace of this build is lost") == 1
    assert "Traceback" not in lost.text
    assert lost.digests() == untraced.digests()
    refused = tiny.build("app", "--no-import", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert refused.text.count("builds send http/protobuf only") == 1
    with tiny.after("import sys\nsys.modules['opentelemetry'] = None\n"):
        absent = tiny.build("app", "--no-import")
    assert absent.text.count("pip install 'xoe-buildkit[tracing]'") == 1
