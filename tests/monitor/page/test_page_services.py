"""What services say of themselves: their text, and what is made of it."""

from __future__ import annotations

import json
import threading
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.cli.monitor import _parse_service as parse_service
from buildkit.declare.services_file import parse_services
from buildkit.errors import BuildError, BuildkitError, DefinitionError, FetchError
from buildkit.inspection.service_watch import ServiceWatch, find_published
from buildkit.monitor.exposition import CountedBuckets, find_histograms, parse_samples
from buildkit.monitor.page.service_figures import MOST_SERIES, Series, ServiceFigures, ServiceHistory, read_figures
from buildkit.tools import scrape as scrape_module
from buildkit.tools.metrics_page import fetch_page
from buildkit.tools.scrape import scrape

prometheus_client = pytest.importorskip("prometheus_client")


def _text(requests: dict[str, int], fast: int, slow: int, *, psi: float = 0.1) -> str:
    """Return metrics of the reference service's form, by its own library."""
    registry = prometheus_client.CollectorRegistry()
    answered = prometheus_client.Counter("speech_http_requests", "x", ("route", "method", "status"), registry=registry)
    for status, count in requests.items():
        answered.labels("/v1/segments", "POST", status).inc(count)
    latency = prometheus_client.Histogram(
        "speech_http_request_seconds", "x", ("route",), buckets=(0.1, 0.2, 1), registry=registry
    )
    model = ("model", "version")
    model_latency = prometheus_client.Histogram(
        "model_latency_seconds", "x", model, buckets=(0.1, 0.2), registry=registry
    )
    outcomes = prometheus_client.Counter("model_requests", "x", (*model, "outcome"), registry=registry)
    for seconds, count in ((0.05, fast), (0.5, slow)):
        for _ in range(count):
            latency.labels("/v1/segments").observe(seconds)
            model_latency.labels("vad", "1f0a").observe(seconds)
    outcomes.labels("vad", "1f0a", "ok").inc(fast)
    outcomes.labels("vad", "1f0a", "failed").inc(slow)
    prometheus_client.Gauge("speech_http_requests_in_flight", "x", registry=registry).set(3)
    prometheus_client.Gauge("speech_ready", "x", registry=registry).set(1)
    drift = prometheus_client.Gauge("model_drift_psi", "x", (*model, "signal"), registry=registry)
    drift.labels("vad", "1f0a", 'a "quoted"\nname\\').set(psi)
    prometheus_client.Gauge("model_drift_samples", "x", (*model, "signal"), registry=registry).labels(
        "vad", "1f0a", "rate"
    ).set(9)
    return prometheus_client.generate_latest(registry).decode()


def test_figures_are_those_of_the_time_between_two_looks() -> None:
    history = ServiceHistory(name="app")
    first = history.look(100.0, read_figures(_text({"200": 50}, 50, 0)))
    assert (first["requests"], first["p95"], first["ready"], first["in_flight"]) == (None, None, True, 3)
    text = _text({"200": 140, "500": 5, "503": 5}, 140, 10, psi=0.31)
    now = history.look(110.0, read_figures(text))
    assert (now["requests"], now["errors"], now["refused"]) == (10.0, 0.05, 0.05)
    assert now["p50"] == pytest.approx(0.1 * 50 / 90)
    assert now["p95"] == pytest.approx(0.2 + 0.8 * 5 / 10)
    (model,) = now["models"]
    assert (model["model"], model["version"], model["requests"]) == ("vad", "1f0a", 10.0)
    assert model["errors"] == pytest.approx(0.1)
    assert model["p95"] == 0.2  # beyond the last bound: no more can be said
    assert [(one["signal"], one["psi"], one["samples"]) for one in model["drift"]] == [
        ('a "quoted"\nname\\', 0.31, None),
        ("rate", None, 9.0),
    ]


def test_service_that_begins_anew_counts_from_nothing() -> None:
    history = ServiceHistory(name="app")
    history.look(0.0, read_figures(_text({"200": 500}, 0, 0)))
    again = history.look(10.0, read_figures(_text({"200": 20}, 0, 0)))
    assert again["requests"] == 2.0


def test_looks_older_than_a_minute_are_forgotten() -> None:
    history = ServiceHistory(name="app")
    for second in range(0, 700, 5):
        count = 10 * second if second < 600 else 6000
        now = history.look(float(second), read_figures(_text({"200": count}, 0, 0)))
    assert now["requests"] == 0.0
    assert now["p95"] is None


def test_triton_says_mean_time_and_failures() -> None:
    history = ServiceHistory(name="triton")

    def look(at: float, success: int, failure: int, micros: int) -> dict[str, Any]:
        labels = '{model="m",version="1"}'
        text = (
            f"nv_inference_request_success{labels} {success}\n"
            f'nv_inference_request_failure{{model="m",reason="OTHER",version="1"}} {failure}\n'
            f"nv_inference_request_duration_us{labels} {micros}\n"
        )
        return history.look(at, read_figures(text))["models"][0]

    look(0.0, 0, 0, 0)
    now = look(10.0, 90, 10, 1_800_000)
    assert (now["requests"], now["errors"]) == (10.0, 0.1)
    assert now["mean"] == pytest.approx(0.02)


def test_only_so_many_series_are_kept_of_those_that_are_shown() -> None:
    others = "go_goroutines 5\nprocess_cpu_seconds_total 1\n"
    many = "\n".join(f'model_drift_psi{{signal="{number}"}} 1' for number in range(MOST_SERIES + 10))
    assert read_figures(others).values == {}
    figures = read_figures(others + many)
    assert (len(figures.values), figures.left_out) == (MOST_SERIES, 10)


def test_hostile_service_is_shown_in_part_and_the_rest_counted() -> None:
    def page(count: int) -> str:
        models = (f'model_requests_total{{model="{number}"}} {count}' for number in range(60))
        signals = (
            f'model_drift_psi{{model="{number % 70}",signal="{"s" * 5000} {number // 70}"}} 1'
            for number in range(20_000)
        )
        return "\n".join((*models, *signals))

    history = ServiceHistory(name="app")
    history.look(0.0, read_figures(page(1)))
    now = history.look(10.0, read_figures(page(11)))
    assert now["left_out"] == f"{20_060 - MOST_SERIES} series, 20 models"
    assert len(now["models"]) == 50
    assert now["models"][0]["requests"] == 1.0
    assert len(json.dumps(now)) < 50_000
    first, second = (values for _, values in history._looks)
    assert all(one is other for one, other in zip(first, second, strict=True)), "each series is kept once"
    drift = (f'model_drift_psi{{model="a",signal="{number}"}} 1' for number in range(30))
    now = ServiceHistory(name="app").look(0.0, read_figures("\n".join(drift)))
    assert (len(now["models"][0]["drift"]), now["left_out"]) == (20, "10 signals")


def test_many_models_cost_no_more_than_their_series() -> None:
    asked: list[str] = []

    class CountedSeries(Series):
        def label(self, name: str) -> str:
            asked.append(name)
            return super().label(name)

    names = [f"m{number}" for number in range(60)]
    values = {
        CountedSeries(name="model_drift_psi", labels=(("model", name), ("signal", "s"), ("version", "1"))): 1.0
        for name in names
    }
    found = ServiceHistory(name="app").look(0.0, ServiceFigures(values=values))["models"]
    assert [model["model"] for model in found] == sorted(names)[:50]
    assert len(asked) < 4 * len(values)


def test_names_that_a_service_tells_are_shown_in_bounded_length() -> None:
    text = f'model_drift_psi{{model="{"m" * 5000}",version="{"v" * 5000}",signal="{"s" * 5000}"}} 1\n'
    found = ServiceHistory(name="app").look(0.0, read_figures(text))["models"]
    assert len(json.dumps(found)) < 1500


def test_what_is_said_of_a_service_shows_no_password() -> None:
    told: list[dict[str, Any]] = []
    url = "http://me:hunter2@127.0.0.1:9/metrics?token=hunter2#hunter2"
    ServiceWatch(services={"app": url}, publish=told.append).look()
    assert told[0]["services"][0]["problem"].startswith("http://127.0.0.1:9/metrics: ")
    assert "hunter2" not in json.dumps(told)


def test_buckets_without_an_edge_are_left_out() -> None:
    text = "".join(f'h_bucket{{le="{edge}"}} 5\n' for edge in ("x", "NaN", "0.1", "+Inf")) + "h_bucket 7\n"
    (histogram,) = find_histograms(parse_samples(text), "h").values()
    assert histogram.buckets == ((0.1, 5.0), (float("inf"), 5.0))


@given(st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False), max_size=4))
def test_what_the_library_writes_is_read_back(values: dict[str, float]) -> None:
    registry = prometheus_client.CollectorRegistry()
    gauge = prometheus_client.Gauge("model_drift_psi", "x", ("signal",), registry=registry)
    values = {name.encode("utf-8", "replace").decode(): value for name, value in values.items()}
    for name, value in values.items():
        gauge.labels(name).set(value)
    text = prometheus_client.generate_latest(registry).decode()
    wanted = {Series(name="model_drift_psi", labels=(("signal", name),)): value for name, value in values.items()}
    assert read_figures(text).values == wanted


@pytest.mark.parametrize(
    ("buckets", "share", "quantile"),
    [
        ([(0.1, 10), (0.2, 10), (float("inf"), 10)], 0.5, 0.05),
        ([(0.1, 0), (0.2, 10), (float("inf"), 20)], 0.95, 0.2),
        ([(0.1, 0), (float("inf"), 0)], 0.5, None),
    ],
)
def test_quantiles_are_those_of_promql(buckets: list[tuple[float, float]], share: float, quantile: float) -> None:
    found = CountedBuckets(buckets=tuple(buckets), total=0.0).find_quantile(share)
    assert found == (None if quantile is None else pytest.approx(quantile))


@contextmanager
def _answering(status: int, body: bytes, location: str = "", seen: list[str] | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


def test_service_is_asked_once_and_not_followed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with _answering(200, b"speech_ready 1\n\xff") as url:
        assert scrape(url) == "speech_ready 1\n\ufffd"
    with _answering(302, b"", "file:///etc/passwd") as url, pytest.raises(FetchError, match="answered 302"):
        scrape(url)
    with _answering(500, b"") as url, pytest.raises(FetchError, match="answered 500"):
        scrape(url)
    monkeypatch.setattr(scrape_module, "MOST_BYTES", 10)
    with _answering(200, b"x" * 11) as url, pytest.raises(FetchError, match="more than 10 bytes"):
        scrape(url)
    with pytest.raises(FetchError, match="refused"):
        scrape(url)
    with pytest.raises(FetchError, match="must begin with http"):
        scrape("file:///etc/passwd")


@contextmanager
def _sending(*parts: bytes, pause: float = 0.0) -> Iterator[str]:
    """Answer each connection with these bytes, a pause after each."""
    ended = threading.Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            with suppress(OSError):
                for part in parts:
                    self.request.sendall(part)
                    ended.wait(pause)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


def said(read: Callable[[str], object], url: str) -> str:
    """Return the message with which an address is refused, and what caused that."""
    try:
        read(url)
    except (BuildkitError, ArgumentTypeError) as error:
        return f"{error} {error.__cause__}"
    return ""


@pytest.mark.parametrize("secret", ["hunter2", "p@hunter2", "hunter2/x", "hunter2#", "1hunter2?x"])
def test_password_of_an_address_is_in_no_message(secret: str) -> None:
    url = f"http://user:{secret}@127.0.0.1:1/m?token=hunter2"
    assert {said(scrape, url), said(fetch_page, url)}.isdisjoint({""})
    for read in (scrape, fetch_page, parse_service, lambda text: parse_service(f"app={text}")):
        assert "hunter2" not in said(read, url)
    told: list[dict[str, Any]] = []
    ServiceWatch(services={"app": url}, publish=told.append).look()
    assert "hunter2" not in json.dumps(told)


def test_user_and_password_of_an_address_are_sent() -> None:
    seen: list[str] = []
    with _answering(200, b"", seen=seen) as url:
        scrape(url.replace("//", "//us%40er:p%3Aw@"))
        scrape(url)
    assert seen == ["Basic dXNAZXI6cDp3", ""]


def test_what_speaks_no_http_is_an_error_and_not_a_crash() -> None:
    with _sending(b"SSH-2.0-OpenSSH_9.6\r\n") as url, pytest.raises(FetchError, match="does not answer by HTTP"):
        scrape(url)
    for url in ("http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://[::1/", "http:///metrics"):
        with pytest.raises(FetchError):
            scrape(url)
        with pytest.raises((DefinitionError, BuildError)):
            fetch_page(url)


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 100),
        tuple(b"HTTP/1.1 200 OK\r\n"[at : at + 1] for at in range(17)),
        (b"HTTP/1.1 100 Continue\r\n\r\n",) * 100,
    ],
)
def test_answer_that_comes_drop_by_drop_takes_no_longer_than_it_may(parts: tuple[bytes, ...]) -> None:
    with _sending(*parts, pause=1.0) as url, pytest.raises(FetchError, match="took too long"):
        scrape(url, seconds=1.5)


def test_watch_tells_of_all_services_and_why_one_does_not_answer() -> None:
    told: list[dict[str, Any]] = []
    answers = iter([_text({"200": 1}, 1, 0), FetchError("http://x: refused"), _text({"200": 9}, 9, 0)])

    def fetch(_url: str) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    clock = iter(range(0, 1000, 20))
    watch = ServiceWatch(
        services={"app": "http://x"},
        publish=told.append,
        clock=lambda: float(next(clock)),
        wall=lambda: 5.0,
        fetch=fetch,
    )
    for _ in range(3):
        watch.look()
    services = [data["services"][0] for data in told]
    assert [one["problem"] for one in services] == [None, "http://x: refused", None]
    assert services[2]["requests"] is None  # nothing is compared across a failure
    json.dumps(told)


def test_declared_service_is_shown_from_its_first_answer_on() -> None:
    told: list[dict[str, Any]] = []
    answers = iter([FetchError("refused"), _text({"200": 1}, 1, 0), FetchError("refused")])

    def fetch(_url: str) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = ServiceWatch(services={"app": "http://x"}, publish=told.append, declared={"app"}, fetch=fetch)
    for _ in range(3):
        watch.look()
    assert [[one["problem"] for one in data["services"]] for data in told] == [[], [None], ["refused"]]


def test_declared_metrics_are_found_at_the_ports_that_a_service_publishes() -> None:
    text = """
    [services.app]
    stage = "runtime"
    ports = ["0.0.0.0:8001:8000", "9000"]
    metrics = { port = 8000, path = "/m" }
    [services.six]
    stage = "runtime"
    ports = ["[::1]:8002:8000"]
    metrics = { port = 8000 }
    [services.hidden]
    stage = "runtime"
    metrics = { port = 8000 }
    [services.silent]
    stage = "runtime"
    ports = ["8003"]
    [environments.production]
    services = ["app", "six", "hidden", "silent"]
    """
    found = find_published(parse_services(text, stages={"runtime"}))
    assert found == {"app": "http://127.0.0.1:8001/m", "six": "http://[::1]:8002/metrics"}
