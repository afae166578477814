"""The service as a client sees it, in this process."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import reference
import soundfile  # type: ignore[import-untyped]
import soxr  # type: ignore[import-untyped]
from clips import FORMATS, Clip, encode, make_tone, wait_until_ready
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import create_app
from segments import make_rules
from settings import Settings

WAV = {"Content-Type": "audio/wav"}
MakeSettings = Callable[..., Settings]


def post(client: TestClient, data: bytes, media: str = "audio/wav", **query: Any) -> httpx2.Response:
    return client.post("/v1/speech", content=data, headers={"Content-Type": media}, params=query)


def check_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"type", "title", "status", "code", "message", "hint"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["message"]
    return body


def read_metrics(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


@pytest.mark.parametrize(("name", "kind", "subtype", "media"), FORMATS)
def test_speech_is_found_in_every_format(
    client: TestClient, model_path: Path, speech: Clip, name: str, kind: str, subtype: str, media: str
) -> None:
    rate = 48_000
    mono = soxr.resample(speech.samples, speech.rate, rate)
    data = encode(np.stack([mono, mono], axis=1), rate, kind, subtype)
    response = post(client, data, media)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["audio"] == {
        "duration": pytest.approx(speech.seconds, abs=0.002),
        "sample_rate": rate,
        "channels": 2,
        "format": name,
        "encoding": subtype,
    }
    whole = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].mean(axis=1)
    samples = soxr.resample(np.clip(whole, -1, 1), rate, 16_000)
    rules = make_rules(threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=30)
    expected = reference.find_segments(reference.run_model(model_path, samples), len(samples), rules)
    found = [(one["start"], one["end"]) for one in body["segments"]]
    assert len(found) == len(expected)
    assert np.abs(np.array(found) - np.array(expected) / 16_000).max() < 512 / 16_000
    assert body["speech_seconds"] == pytest.approx(sum(end - start for start, end in found), abs=0.002)


def test_silence_has_no_segments(client: TestClient) -> None:
    body = post(client, encode(np.zeros(44_100, np.float32), 44_100)).json()
    assert body["segments"] == []
    assert body["speech_seconds"] == 0
    assert body["audio"]["duration"] == 1


@pytest.mark.parametrize("media", ["", "application/octet-stream", "AUDIO/WAV; rate=16000", "audio/flac"])
def test_the_bytes_decide_what_the_format_is(client: TestClient, media: str) -> None:
    headers = {"Content-Type": media} if media else {}
    data = encode(np.zeros(16_000, np.float32), 16_000)
    assert client.post("/v1/speech", content=data, headers=headers).json()["audio"]["format"] == "wav"


def test_a_request_may_bring_its_own_rules(client: TestClient, speech: Clip) -> None:
    data = encode(speech.samples, speech.rate)
    usual = post(client, data).json()["segments"]
    one = post(client, data, min_silence_ms=10_000, pad_ms=0, threshold=0.3).json()["segments"]
    assert len(one) == 1
    assert one[0]["start"] >= usual[0]["start"] - 0.1
    assert post(client, data, min_speech_ms=60_000).json()["segments"] == []


@pytest.mark.parametrize(
    "query", [{"threshold": "1.5"}, {"threshold": "nan"}, {"pad_ms": "-1"}, {"min_speech_ms": "x"}, {"treshold": "0.5"}]
)
def test_a_bad_parameter_is_named(client: TestClient, query: dict[str, str]) -> None:
    body = check_problem(post(client, b"", **query), 422, "bad_parameter")
    assert next(iter(query)) in body["message"]


@pytest.mark.parametrize(
    ("data", "media", "status", "code"),
    [
        (b"", "audio/wav", 400, "empty"),
        (b"not audio at all", "audio/wav", 400, "not_audio"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav", 400, "not_audio"),
        (b"{}", "application/json", 415, "unsupported_type"),
        (b"x", "multipart/form-data; boundary=x", 415, "unsupported_type"),
        (b"x", "application/x-www-form-urlencoded", 415, "unsupported_type"),
        (b"x", "video/mp4", 415, "unsupported_type"),
        (b"x", "garbage", 415, "unsupported_type"),
    ],
)
def test_other_bodies_are_refused(client: TestClient, data: bytes, media: str, status: int, code: str) -> None:
    assert check_problem(post(client, data, media), status, code)["hint"]


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    response = client.post("/v1/speech", content=b"x", headers={**WAV, "Content-Encoding": "gzip"})
    check_problem(response, 415, "unsupported_encoding")


def test_bad_audio_is_refused(client: TestClient, speech: Clip) -> None:
    data = encode(speech.samples, speech.rate)
    check_problem(post(client, data[: len(data) // 2]), 400, "truncated")
    check_problem(post(client, encode(np.full(100, np.nan, np.float32), 16_000, "WAV", "FLOAT")), 400, "not_finite")


def test_unknown_paths_and_methods_are_problems_too(client: TestClient) -> None:
    check_problem(client.get("/nothing"), 404, "http")
    assert check_problem(client.get("/v1/speech"), 405, "http")["title"] == "Method Not Allowed"


def test_too_many_bytes_are_refused_by_their_header_and_by_counting(make_settings: MakeSettings) -> None:
    with TestClient(create_app(make_settings(max_bytes=32_044))) as client:
        wait_until_ready(client)
        fits = encode(np.zeros(16_000, np.float32), 16_000)
        assert len(fits) == 32_044
        assert post(client, fits).status_code == 200
        check_problem(post(client, fits + b"\0"), 413, "too_large")
        sent = []

        def stream() -> Any:
            for _ in range(1000):
                sent.append(1)
                yield bytes(16_000)

        check_problem(client.post("/v1/speech", content=stream(), headers=WAV), 413, "too_large")


def test_a_length_that_lies_does_not_help(make_settings: MakeSettings) -> None:
    with TestClient(create_app(make_settings(max_bytes=2000))) as client:
        wait_until_ready(client)
        data = encode(np.zeros(16_000, np.float32), 16_000)
        response = client.post("/v1/speech", content=data, headers={**WAV, "Content-Length": "100"})
        check_problem(response, 413, "too_large")
        response = client.post("/v1/speech", content=data, headers={**WAV, "Content-Length": "-1"})
        check_problem(response, 400, "bad_length")


def test_a_small_file_of_long_audio_is_refused(make_settings: MakeSettings) -> None:
    with TestClient(create_app(make_settings(max_seconds=60))) as client:
        wait_until_ready(client)
        hours = encode(np.zeros(8_000 * 3600, np.float32), 8_000, "FLAC")
        assert len(hours) < 500_000
        check_problem(post(client, hours, "audio/flac"), 413, "too_long")


def test_a_model_that_is_missing_is_never_ready(make_settings: MakeSettings, tmp_path: Path) -> None:
    failures: list[int] = []
    app = create_app(make_settings(model=tmp_path / "none.onnx"), lambda: failures.append(1))
    with TestClient(app) as client:
        until = time.monotonic() + 10
        while not failures:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert client.get("/healthz").json()["status"] == "up"
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["status"] == "failed"
        assert "none.onnx" in response.json()["reason"]
        refused = post(client, b"x")
        check_problem(refused, 503, "not_ready")
        assert refused.headers["retry-after"] == "1"
        assert read_metrics(client)["speech_ready"] == 0


def test_before_the_model_is_loaded_the_process_is_up_and_not_ready(make_settings: MakeSettings) -> None:
    client = TestClient(create_app(make_settings()))  # not entered: nothing is started
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    check_problem(post(client, b"x"), 503, "not_ready")


def test_metrics_count_requests_audio_and_refusals(client: TestClient, speech: Clip) -> None:
    body = post(client, encode(speech.samples, speech.rate)).json()
    post(client, b"x" * 100)
    client.get("/../../etc/passwd")
    client.request("BREW", "/v1/speech")
    metrics = read_metrics(client)
    assert metrics['speech_http_requests_total{method="POST",route="/v1/speech",status="200"}'] == 1
    assert metrics['speech_http_requests_total{method="POST",route="/v1/speech",status="400"}'] == 1
    assert metrics['speech_http_requests_total{method="GET",route="unmatched",status="404"}'] == 1
    assert metrics['speech_http_requests_total{method="OTHER",route="/v1/speech",status="405"}'] == 1
    assert metrics['speech_http_request_seconds_count{method="POST",route="/v1/speech",status="200"}'] == 1
    assert metrics['speech_problems_total{code="not_audio"}'] == 1
    assert metrics["speech_http_requests_in_flight"] == 1  # this very one
    assert metrics["speech_audio_seconds_total"] == pytest.approx(speech.seconds)
    assert metrics["speech_detected_seconds_total"] == pytest.approx(body["speech_seconds"], abs=0.01)
    assert metrics["speech_ready"] == 1
    (model,) = [name for name in metrics if name.startswith("speech_model_info")]
    assert 'name="silero_vad_16k_sequence.onnx"' in model
    assert "process_resident_memory_bytes" in metrics


def test_an_error_of_the_service_says_nothing_of_its_inside_and_is_counted(make_settings: MakeSettings) -> None:
    app = create_app(make_settings())

    @app.get("/healthz/broken")
    def fail() -> None:
        raise RuntimeError("a secret")

    client = TestClient(app, raise_server_exceptions=False)
    response = client.get("/healthz/broken")
    check_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert read_metrics(client)['speech_http_requests_total{method="GET",route="unmatched",status="500"}'] == 1


def test_the_schema_describes_the_request_and_the_answer(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    operation = schema["paths"]["/v1/speech"]["post"]
    assert {"audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"} <= set(operation["requestBody"]["content"])
    assert {one["name"] for one in operation["parameters"]} == {
        "threshold",
        "min_speech_ms",
        "min_silence_ms",
        "pad_ms",
    }
    assert {"200", "400", "408", "413", "415", "422", "503"} <= set(operation["responses"])


# What several requests do to each other: on one event loop, without a server.


@asynccontextmanager
async def start(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)
            yield client


def test_one_request_too_many_is_told_to_come_back(make_settings: MakeSettings) -> None:
    data = encode(np.zeros(16_000, np.float32), 16_000)

    async def scenario() -> None:
        release = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield data[:100]
            await release.wait()
            yield data[100:]

        async with start(create_app(make_settings(workers=1, max_waiting=1))) as client:
            held = [
                asyncio.create_task(client.post("/v1/speech", content=slow(), headers=WAV, timeout=None))
                for _ in range(2)
            ]
            await asyncio.sleep(0.1)
            refused = await client.post("/v1/speech", content=data, headers=WAV)
            check_problem(refused, 503, "busy")
            assert refused.headers["retry-after"] == "1"
            assert (await client.get("/readyz")).status_code == 200
            release.set()
            assert [(await one).status_code for one in held] == [200, 200]
            assert (await client.post("/v1/speech", content=data, headers=WAV)).status_code == 200

    asyncio.run(scenario())


def test_an_upload_that_does_not_come_is_given_up(make_settings: MakeSettings) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"RIFF"
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with start(create_app(make_settings(upload_timeout=0.1))) as client:
            check_problem(await client.post("/v1/speech", content=never(), headers=WAV), 408, "upload_timeout")
            refused = await client.post("/v1/speech", content=b"x", headers=WAV)  # and its place is free again
            check_problem(refused, 400, "not_audio")

    asyncio.run(scenario())


def test_probes_are_answered_while_audio_is_analysed(make_settings: MakeSettings) -> None:
    data = encode(make_tone(200, 16_000, 300), 16_000, "FLAC")

    async def scenario() -> None:
        async with start(create_app(make_settings())) as client:
            started = time.perf_counter()
            work = asyncio.create_task(client.post("/v1/speech", content=data, headers=WAV, timeout=None))
            longest, count = 0.0, 0
            while not work.done():
                begun = time.perf_counter()
                assert (await client.get("/healthz")).status_code == 200
                longest, count = max(longest, time.perf_counter() - begun), count + 1
                await asyncio.sleep(0.005)
            assert (await work).status_code == 200
            assert count > 10
            assert longest < (time.perf_counter() - started) / 2

    asyncio.run(scenario())


def test_work_ends_when_the_client_is_gone(make_settings: MakeSettings) -> None:
    data = encode(np.zeros(16_000 * 3000, np.float32), 16_000, "FLAC")
    app = create_app(make_settings(workers=1))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/speech",
        "raw_path": b"/v1/speech",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"audio/flac")],
    }

    async def scenario() -> None:
        messages: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": data}, {"type": "http.disconnect"}])

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def send(_: Any) -> None:
            pass

        async with start(app) as client:
            await app(scope, receive, send)
            text = (await client.get("/metrics")).text
            assert 'speech_http_requests_total{method="POST",route="/v1/speech",status="499"} 1.0' in text
            short = encode(np.zeros(160, np.float32), 16_000)
            begun = time.perf_counter()
            assert (await client.post("/v1/speech", content=short, headers=WAV)).status_code == 200
            assert time.perf_counter() - begun < 1  # the only worker was free: 50 minutes of audio take seconds
            assert "speech_audio_seconds_total 0.01" in (await client.get("/metrics")).text

    asyncio.run(scenario())


def test_stopping_ends_running_work_with_a_clear_answer(make_settings: MakeSettings) -> None:
    data = encode(np.zeros(16_000 * 3000, np.float32), 16_000, "FLAC")

    async def scenario() -> None:
        app = create_app(make_settings(workers=1))
        async with start(app) as client:
            work = asyncio.create_task(client.post("/v1/speech", content=data, headers=WAV, timeout=None))
            await asyncio.sleep(0.2)
            begun = time.perf_counter()
        check_problem(await work, 503, "stopping")
        assert time.perf_counter() - begun < 1

    asyncio.run(scenario())
