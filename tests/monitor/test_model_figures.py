"""A service's page of metrics as figures of its models, and as a report."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from buildkit.cli.drift import run
from buildkit.errors import BuildError, DefinitionError
from buildkit.monitor.exposition import CountedBuckets, MetricSample, parse_samples
from buildkit.monitor.model_figures import read_models
from buildkit.report.drift_chart import render_drift

LABELS = 'model="m.onnx",version="abc"'
REFERENCE = (600, 600, 600, 600)


def histogram(name: str, counts: tuple[int, ...], labels: str, edges: tuple[str, ...], total: float = 1.0) -> str:
    sums = [sum(counts[: number + 1]) for number in range(len(counts))]
    buckets = zip((*edges, "+Inf"), sums, strict=True)
    lines = [f'{name}_bucket{{{labels},le="{edge}"}} {count}' for edge, count in buckets]
    return "\n".join((*lines, f"{name}_count{{{labels}}} {sums[-1]}", f"{name}_sum{{{labels}}} {total}", ""))


def page(seen: tuple[int, ...] = (300, 300, 300, 300), ok: int = 1200, window: str = "") -> str:
    signal = f'{LABELS},signal="level"'
    edges = ("-30.0", "-20.0", "-10.0")
    return "".join(
        (
            "# HELP model_requests_total x\n# TYPE model_requests_total counter\n",
            f'model_requests_total{{{LABELS},outcome="ok"}} {ok}\n',
            f'model_requests_total{{{LABELS},outcome="failed"}} 3.0\n',
            histogram("model_latency_seconds", (0, ok // 2, ok // 2, 0), LABELS, ("0.1", "0.2", "0.4")),
            histogram("model_confidence", (0, ok), LABELS, ("0.8",), 0.9 * ok),
            f'model_drift_profile_info{{{LABELS},profile="0123"}} 1\n',
            histogram("model_signal_reference", REFERENCE, signal, edges),
            histogram("model_signal", seen, signal, edges),
            f"model_drift_samples{{{signal}}} 12\nmodel_drift_samples_needed{{{signal}}} 200\n{window}",
        )
    )


def test_samples_are_read_as_prometheus_writes_them() -> None:
    text = 'a 1\nb{x="1",y="q\\"\\\\\\n}"} 2.5e3 1700000000000\n# c 1\n'
    text += 'broken{ 3\nd{} NaN\nnot a number\n\ne{ x="1", } +Inf\n'
    text += 'half{x="1",y} 1\nhalf{x="1" "y"="2"} 1\n'
    found = list(parse_samples(text))
    assert found[:2] == [
        MetricSample(name="a", labels={}, value=1.0),
        MetricSample(name="b", labels={"x": "1", "y": 'q"\\\n}'}, value=2500.0),
    ]
    assert [(one.name, one.labels) for one in found[2:]] == [("d", {}), ("e", {"x": "1"})]
    assert math.isnan(found[2].value)


def test_a_label_without_end_takes_no_longer_than_its_length() -> None:
    for labels in ("a" * (4 << 20), 'a="' + "b" * (4 << 20), 'a="' + "b=" * (2 << 20)):
        assert list(parse_samples(f"model_requests_total{{{labels}}} 1\nb 1\n")) == [
            MetricSample(name="b", labels={}, value=1.0)
        ]


def test_many_models_and_signals_cost_no_more_than_their_number() -> None:
    many = "".join(f'model_requests_total{{model="{number}",outcome="ok"}} 1\n' for number in range(20_000))
    assert len(read_models(many, many)) == 20_000
    signal = f'{LABELS},signal="level"'
    edges = (
        histogram("model_signal_reference", REFERENCE, signal, ("1", "2", "3")) + f"model_drift_samples{{{signal}}} 7\n"
    )
    text = page() + "".join(edges.replace("level", f"s{number}") for number in range(5000))
    (model,) = read_models(text)
    assert (len(model.signals), {one.window.samples for one in model.signals}) == (5001, {12, 7})


def test_quantiles_are_those_of_prometheus() -> None:
    counted = CountedBuckets(buckets=((0.1, 10.0), (0.2, 10.0), (0.5, 90.0), (math.inf, 100.0)), total=1.0)
    assert counted.find_quantile(0.05) == pytest.approx(0.05)
    assert counted.find_quantile(0.5) == pytest.approx(0.2 + 0.3 * 40 / 80)
    assert counted.find_quantile(0.99) == 0.5
    assert CountedBuckets(buckets=(), total=0.0).find_quantile(0.5) is None
    assert CountedBuckets(buckets=((1.0, 0.0), (math.inf, 0.0)), total=0.0).find_quantile(0.5) is None


def test_models_are_read_with_performance_and_drift() -> None:
    (model,) = read_models(page())
    assert (model.model, model.version, model.profile) == ("m.onnx", "abc", True)
    assert model.requests == {"failed": 3, "ok": 1200}
    assert model.latency["p50"] == pytest.approx(0.2)
    assert model.latency["p95"] == pytest.approx(0.2 + 0.2 * 0.9)
    assert model.confidence == pytest.approx(0.9)
    (signal,) = model.signals
    assert (signal.drift.state, signal.drift.psi) == ("steady", 0)
    assert (signal.window.state, signal.window.samples, signal.window.needed) == ("too few", 12, 200)


def test_what_came_before_is_left_out_and_a_restart_counts_as_a_whole() -> None:
    before = page(seen=(300, 300, 300, 300), ok=1200)
    (model,) = read_models(page(seen=(1300, 300, 300, 300), ok=2200), before)
    assert model.requests == {"failed": 0, "ok": 1000}
    assert model.signals[0].seen.counts == (1000, 0, 0, 0)
    assert model.signals[0].drift.state == "drifted"
    (model,) = read_models(page(seen=(100, 0, 0, 0), ok=100), before)
    assert model.requests == {"failed": 3, "ok": 100}
    assert model.signals[0].seen.counts == (100, 0, 0, 0)


def test_picture_is_a_document_with_all_bins() -> None:
    (model,) = read_models(page(seen=(1200, 0, 0, 0)).replace("m.onnx", "a<b"))
    text = render_drift(model)
    root = ET.fromstring(text)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == 1 + 2 * 4
    assert "drifted: PSI" in text
    assert "a&lt;b" in text
    assert render_drift(model) == text


@contextmanager
def answering(text: str, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics" else 404)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/metrics")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_report_of_a_running_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, drawn = tmp_path / "page.txt", tmp_path / "drift.svg"
    signal = f'{{{LABELS},signal="level"}}'
    window = f"model_drift_psi{signal} 0.5\nmodel_drift_ks{signal} 0.3\nmodel_drift_ks_pvalue{signal} 1e-9\n"
    with answering(page(window=window)) as url:
        assert run(tmp_path, ("report", url, "--save", str(saved), "--svg", str(drawn))) == 0
        told = capsys.readouterr().out
        assert run(tmp_path, ("report", url, "--json", "--check", "--since", str(saved))) == 1
        (model,) = json.loads(capsys.readouterr().out)
    assert "m.onnx abc: 3 failed, 1200 ok; p50 0.200 s" in told
    assert re.search(r"level +steady: PSI 0.000, .* +drifted: PSI 0.500", told)
    assert ET.parse(drawn)
    (found,) = model["signals"]
    assert (found["counted"]["state"], found["window"]["state"]) == ("too few", "drifted")
    assert found["reference"] == list(REFERENCE)


@pytest.mark.parametrize(("psi", "code"), [("0.01", 0), ("0.5", 1), ("", 1), ("NaN", 1), ("-Inf", 1)])
def test_check_passes_only_what_is_steady(tmp_path: Path, psi: str, code: int) -> None:
    signal = f'{{{LABELS},signal="level"}}'
    window = f"model_drift_psi{signal} {psi}\nmodel_drift_ks{signal} 0.1\nmodel_drift_ks_pvalue{signal} 0.5\n"
    with answering(page(window=window if psi else "")) as url:
        assert run(tmp_path, ("report", url, "--check")) == code


def test_a_signal_whose_bins_are_not_those_of_its_profile_is_not_left_out(tmp_path: Path) -> None:
    text = page().replace('model_signal_bucket{model="m.onnx",version="abc",signal="level",le="-30.0"}', "other 1 #")
    (signal,) = read_models(text)[0].signals
    assert (signal.drift.state, signal.seen.counts) == ("too few", (0, 0, 0, 0))
    with answering(text) as url:
        assert run(tmp_path, ("report", url, "--check")) == 1


def test_report_without_a_profile_says_that_drift_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'model_requests_total{{{LABELS},outcome="ok"}} 1\nmodel_drift_profile_info{{{LABELS},profile=""}} 0\n'
    with answering(text) as url:
        assert run(tmp_path, ("report", url, "--check")) == 1
        assert "drift is not known" in capsys.readouterr().out
        with pytest.raises(BuildError, match="nothing to draw"):
            run(tmp_path, ("report", url, "--svg", str(tmp_path / "x.svg")))


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [("up 1\n", 200, "has no model_requests_total"), ("", 404, "answered 404"), ("", 302, "answered 302")],
)
def test_other_services_are_named(tmp_path: Path, text: str, status: int, why: str) -> None:
    with answering(text, status) as url, pytest.raises(BuildError, match=why):
        run(tmp_path, ("report", url))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (',outcome="ok"} 1200', ',outcome="ok"} NaN'),
        (',outcome="ok"} 1200', ',outcome="ok"} +Inf'),
        ("} 600\n", "} 1\n"),  # buckets that fall
        ("samples_needed", "samples"),
        (f'{{{LABELS},signal="level",le="-', 'x{le="-'),  # no bins but the last
    ],
)
def test_figures_that_are_none_are_an_error_and_not_a_crash(tmp_path: Path, old: str, new: str) -> None:
    text = page().replace(old, new).replace("} 1200\n", "} 2\n").replace("} 1800\n", "} 3\n")
    text = text.replace("} 2400\n", "} 4\n")  # a reference too small to compare with
    with answering(text) as url, pytest.raises(BuildError, match="its figures of models cannot be used"):
        run(tmp_path, ("report", url))


def test_names_that_a_service_gives_neither_reach_the_terminal_nor_name_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = LABELS.replace("abc", "\x1b]0;x\x07/../../out")
    with answering(page() + page().replace(LABELS, hostile)) as url:
        assert run(tmp_path, ("report", url, "--svg", str(tmp_path / "drift.svg"))) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drift-2.svg", "drift.svg"]
    assert ET.parse(tmp_path / "drift.svg")
    assert ET.parse(tmp_path / "drift-2.svg")


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="refused"):
        run(tmp_path, ("report", "http://127.0.0.1:9"))
    with pytest.raises(DefinitionError, match="no address of a service"):
        run(tmp_path, ("report", "app"))
    with answering(page()) as url, pytest.raises(DefinitionError, match="nothing: cannot be read"):
        run(tmp_path, ("report", url, "--since", str(tmp_path / "nothing")))
