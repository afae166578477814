"""Traces of requests, as a real receiver gets them; and that requests never wait for one."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clips import Clip, encode, wait_until_ready
from fastapi.testclient import TestClient
from receiver import read_attributes, receiving

from api import create_app
from settings import Settings
from telemetry import Traced, TracingError, parse_sampler, parse_tracing
from tracing import Untraced, open_tracing

MakeSettings = Callable[..., Settings]
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WAV = {"Content-Type": "audio/wav"}


def called(flags: str) -> dict[str, str]:
    return {**WAV, "traceparent": f"00-{TRACE}-{CALLER}-{flags}", "tracestate": "vendor=1"}


@contextmanager
def traced_client(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, **env: str) -> Iterator[TestClient]:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with TestClient(create_app(make_settings()), raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client


def test_a_request_is_one_trace_from_the_callers_span_to_the_answer(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, speech: Clip
) -> None:
    env = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc", "OTEL_RESOURCE_ATTRIBUTES": "team=ml"}
    with receiving() as receiver:
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        with traced_client(make_settings, monkeypatch, **env) as client:
            before = time.time_ns()
            assert client.post(
                "/v1/speech", content=encode(speech.samples, speech.rate), headers=called("01")
            ).is_success
            after = time.time_ns()
            (info,) = client.get("/metrics").text.split("speech_model_info{")[1:]
    spans = receiver.spans
    assert set(spans) == {"POST /v1/speech", "receive", "decode", "infer", "answer"}
    request = spans["POST /v1/speech"]
    assert request.parent_span_id.hex() == CALLER
    for name, span in spans.items():
        assert span.trace_id.hex() == TRACE
        assert span.trace_state == "vendor=1"
        assert before <= span.start_time_unix_nano <= span.end_time_unix_nano <= after
        assert span is request or span.parent_span_id == request.span_id, name
    assert spans["receive"].end_time_unix_nano <= spans["decode"].start_time_unix_nano
    assert spans["decode"].start_time_unix_nano < spans["infer"].start_time_unix_nano
    assert spans["infer"].end_time_unix_nano <= spans["answer"].start_time_unix_nano
    about = read_attributes(spans["infer"])
    assert about["model.digest"].removeprefix("sha256:") in info
    assert about["model.digest"][7:19] == about["model.version"]
    assert about["model.name"] in info
    assert about["batch.size"] >= 1
    assert about["batch.calls"] >= 1
    assert 0 < about["busy.seconds"] < 60
    assert read_attributes(request)["http.response.status_code"] == 200
    resource = receiver.resource
    assert (resource["service.name"], resource["team"]) == ("speech", "ml")
    assert receiver.headers[0]["path"] == "/v1/traces"
    assert receiver.headers[0]["authorization"] == "Bearer abc"


def test_the_callers_decision_counts_and_problems_name_the_trace(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as receiver:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_TRACES_SAMPLER": "parentbased_always_on"}
        with traced_client(make_settings, monkeypatch, **env) as client:
            unsampled = client.post("/v1/speech", content=b"no audio", headers=called("00"))
            own = client.post("/v1/speech", content=b"no audio", headers=WAV)
            bad = client.post("/v1/speech?pad_ms=x", content=b"", headers=called("01"))
            client.get("/nothing")
    assert unsampled.json()["trace_id"] == bad.json()["trace_id"] == TRACE
    ids = {span.trace_id.hex() for request in receiver.requests for span in _all(request)}
    assert own.json()["trace_id"] in ids
    assert ids >= {TRACE}
    refused = [span for request in receiver.requests for span in _all(request) if span.trace_id.hex() == TRACE]
    assert [read_attributes(span)["http.response.status_code"] for span in refused] == [422]  # the sampled one alone
    assert not any("/readyz" in span.name or "/metrics" in span.name for r in receiver.requests for span in _all(r))


def _all(request: object) -> Iterator[object]:
    for resource in request.resource_spans:  # type: ignore[attr-defined]
        for scope in resource.scope_spans:
            yield from scope.spans


@pytest.mark.parametrize("how", ["down", "silent", "refusing"])
def test_requests_and_the_end_never_wait_for_the_receiver(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, speech: Clip, how: str
) -> None:
    with receiving(503 if how == "refusing" else 200, answers=how != "silent") as receiver:
        pass_on = receiver.url if how != "down" else "http://127.0.0.1:9"
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": pass_on,
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "OTEL_BSP_MAX_QUEUE_SIZE": "16",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
        }
        data = encode(speech.samples[: speech.rate], speech.rate)
        with traced_client(make_settings, monkeypatch, **env) as client:
            assert client.post("/v1/speech", content=data, headers=called("01")).status_code == 200
            assert how == "down" or receiver.arrived.wait(30)
            for _ in range(20):  # more spans than the queue holds
                assert client.post("/v1/speech", content=data, headers=called("01")).status_code == 200
            queue = client.app.state.tracing._provider._active_span_processor._span_processors[
                0
            ]._batch_processor._queue
            assert len(queue) <= 16
            begun = time.monotonic()
        assert time.monotonic() - begun < 15  # the receiver holds a connection for 30


def test_log_lines_name_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "1")
    assert isinstance(traced, Traced)
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    traced.start_logging()
    with traced._tracer.start_as_current_span("request"):
        logging.getLogger("speech").warning("it is %s", "loud")
        trace_id = traced.trace_id
    logging.getLogger("speech").warning("nobody asks")
    traced.stop()
    said = [line for line in out.getvalue().splitlines() if "spans are lost" not in line]  # nobody listens there
    assert said == [f"it is loud trace_id={trace_id}", "nobody asks"]
    assert len(trace_id) == 32


def test_without_a_receiver_nothing_of_the_sdk_is_imported(app_folder: Path, model_path: Path) -> None:
    code = (
        "import sys; from api import create_app; from settings import Settings;"
        f"create_app(Settings(model={str(model_path)!r}));"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter',"
        " 'opentelemetry.proto', 'google.protobuf'))])"
    )
    env = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=app_folder, env=env, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_tenth_is_recorded_unless_something_else_is_asked_for() -> None:
    assert "TraceIdRatioBased{0.1}" in parse_sampler({}).get_description()
    assert parse_sampler({}).get_description().startswith("ParentBased{")
    half = parse_sampler({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"})
    assert half.get_description() == "TraceIdRatioBased{0.5}"
    assert parse_sampler({"OTEL_TRACES_SAMPLER": "ALWAYS_ON"}).get_description() == "AlwaysOnSampler"


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER is sometimes"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1.5"}, "OTEL_TRACES_SAMPLER_ARG is 1.5"),
        ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "OTEL_TRACES_SAMPLER_ARG is nan"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "use http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "no address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:x"}, "no address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector/a b"}, "no address"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT is soon"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://x", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere"}, "/nowhere"),
    ],
)
def test_settings_that_cannot_be_used_are_named_and_nothing_is_traced(
    env: dict[str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **env}
    with pytest.raises(TracingError, match=why):
        parse_tracing(env)
    assert type(open_tracing(env, "1")) is Untraced
    assert why in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        "authorization=Bearer%20hunter2%0Ax",
        "authorization=hunter2,hunter2",
        "authorization: hunter2",
        "hunter2",
        "a%0d%0ab=hunter2",
        "authorization=hunter2\N{EURO SIGN}",
    ],
)
def test_headers_that_cannot_be_sent_are_refused_and_not_shown(headers: str, caplog: pytest.LogCaptureFixture) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_HEADERS": headers}
    with caplog.at_level(logging.DEBUG):
        assert type(open_tracing(env, "1")) is Untraced
    assert "OTEL_EXPORTER_OTLP_HEADERS" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("name", ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"])
def test_what_the_sdk_refuses_turns_traces_off(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, "-1")
    assert type(open_tracing(ON, "1")) is Untraced
    assert "requests are not traced" in caplog.text


ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        ON | {"OTEL_SDK_DISABLED": "TRUE"},
        ON | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_asked_for(env: dict[str, str]) -> None:
    assert type(open_tracing(env, "1")) is Untraced
