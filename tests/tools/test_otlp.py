"""Traces to a real receiver of OTLP: what it gets, and what happens where it does not answer."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from buildkit.errors import DefinitionError
from buildkit.tools.otlp import send_trace
from buildkit.tools.traces import TracedSpan, TraceSettings, clean_text, load_trace_settings
from tests.otlpcollector import OtlpCollector, attributes, serve_collector

SPANS = (
    TracedSpan(name="build", parent=None, began=1_000, ended=9_000, attributes=(("n", 3), ("t", "x\udc80"))),
    TracedSpan(name="pack", parent=0, began=2_000, ended=3_000, failure="no room at https://me:secret@host/x?sig=1"),
)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def settings(url: str, **more: str) -> TraceSettings:
    found = load_trace_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **more})
    assert found is not None
    return found


def send(collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch, **env: str) -> str:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return send_trace(SPANS, {"service.name": "xoe-buildkit", "xoe.project": "tiny"}, settings(collector.url), env)


def test_spans_arrive_with_parents_times_and_status(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc", "OTEL_RESOURCE_ATTRIBUTES": "team=ml"}
    with serve_collector() as collector:
        assert send(collector, monkeypatch, **env) == ""
    root, pack = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert (root.name, root.start_time_unix_nano, root.end_time_unix_nano) == ("build", 1_000, 9_000)
    assert root.parent_span_id == b""
    assert pack.parent_span_id == root.span_id
    assert pack.trace_id == root.trace_id
    assert attributes(root.attributes) == {"n": 3, "t": "x\N{REPLACEMENT CHARACTER}"}
    assert (pack.status.code, root.status.code) == (2, 0)
    assert pack.status.message == "no room at https://host/x"
    assert collector.headers[0]["authorization"] == "Bearer abc"
    shown = {name: collector.resource[name] for name in ("service.name", "xoe.project", "team")}
    assert shown == {"service.name": "xoe-buildkit", "xoe.project": "tiny", "team": "ml"}


def test_parent_and_service_name_of_the_environment_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_collector() as collector:
        assert send(collector, monkeypatch, TRACEPARENT=PARENT, OTEL_SERVICE_NAME="mine") == ""
    root = min(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert root.trace_id.hex() == PARENT.split("-")[1]
    assert root.parent_span_id.hex() == PARENT.split("-")[2]
    assert collector.resource["service.name"] == "mine"


@pytest.mark.parametrize("env", [{"OTEL_TRACES_SAMPLER": "always_off"}, {"TRACEPARENT": PARENT[:-1] + "0"}])
def test_what_is_not_sampled_is_not_sent(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_collector() as collector:
        assert send(collector, monkeypatch, **env) == ""
    assert not collector.requests


def test_slow_collector_is_left_after_the_timeout() -> None:
    with serve_collector(delay=30) as collector:
        began = time.monotonic()
        why = send_trace(SPANS, {}, settings(collector.url, OTEL_EXPORTER_OTLP_TIMEOUT="300"), {})
        assert time.monotonic() - began < 20  # the first of them imports much
    assert why


def test_refusing_and_absent_collectors_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    with serve_collector(status=401) as collector:
        assert send_trace(SPANS, {}, settings(collector.url), {}) == "it answered HTTP 401"
    absent = settings(collector.url, OTEL_EXPORTER_OTLP_TIMEOUT="200")  # its port is closed now
    assert send_trace(SPANS, {}, absent, {}) == "it cannot be reached, or has no time"
    assert capfd.readouterr() == ("", "")  # the SDK's own log quotes URLs and headers


def test_settings_follow_the_specification() -> None:
    assert load_trace_settings({}) is None
    assert load_trace_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None
    host = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:pw@collector:4318/base/"}
    assert load_trace_settings({**host, "OTEL_SDK_DISABLED": "TRUE"}) is None
    assert load_trace_settings({**host, "OTEL_TRACES_EXPORTER": "none"}) is None
    found = load_trace_settings({**host, "OTEL_EXPORTER_OTLP_TIMEOUT": "2500"})
    assert found is not None
    assert (found.endpoint, found.seconds) == ("https://me:pw@collector:4318/base/v1/traces", 2.5)
    assert found.host == "https://collector:4318"
    own = load_trace_settings({**host, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other/x"})
    assert own is not None
    assert own.endpoint == "http://other/x"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "builds send http/protobuf only"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "not 1 to 600000 milliseconds"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "not 1 to 600000 milliseconds"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "9" * 5000, "not 1 to 600000 milliseconds"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "no URL of a collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[x", "no URL of a collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:99999", "no URL of a collector"),
    ],
)
def test_settings_that_cannot_be_followed_are_errors(name: str, value: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        load_trace_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", name: value})


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@host/x",
        "https://hunter2@host/x",
        "https://user:p@hunter2@host/x",
        "https://host/x?X-Signature=hunter2",
        "curl -H 'Authorization: Bearer hunter2'",
        "wget --header='Authorization: token hunter2' x",
        "cloning git+https://hunter2@host/x.git",
        "HF_TOKEN=hunter2 failed",
        '{"password": "hunter2"}',
        "--api-key=hunter2",
        "x " * 1998 + "https://hunter2" + "x" * 100 + "@host",
    ],
)
def test_secrets_are_no_part_of_a_text(text: str) -> None:
    assert "hunter2" not in clean_text(text)


def test_names_of_layers_and_images_stay_whole() -> None:
    for text in ("pack ml/wheels/tokenizers", "push localhost:5000/x/y:1.0", "fetch model@sha256:aa, 3 files"):
        assert clean_text(text) == text


def test_long_text_is_cut_in_no_time() -> None:
    began = time.monotonic()
    assert len(clean_text("a." * 10_000_000 + " b")) <= 500
    assert len(clean_text("word " * 1_000_000)) == 500
    assert time.monotonic() - began < 5


def test_a_build_imports_nothing_of_it() -> None:
    code = "import sys, buildkit.cli.building, buildkit.build.pipeline, buildkit.build.build_layers\n"
    code += (
        "print([x for x in sys.modules if 'opentelemetry' in x or x.endswith(('traces', 'otlp', 'trace_recorder'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
