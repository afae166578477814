"""What /metrics says of the model: requests, latency, confidence, and drift from its profile."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import Clip, encode, wait_until_ready
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest
from xoe_runtime.drift import count_needed, measure_psi
from xoe_runtime.drift_profile import DriftProfile, make_profile, parse_profile, render_profile

import make_profile as program
from api import create_app
from detector import Detector, ModelInfo
from performance import Signals, find_profile
from settings import Settings

INFO = ModelInfo(name="model.onnx", sha256="ab" * 32)
MakeSettings = Callable[..., Settings]


def make_level_profile(info: ModelInfo = INFO) -> DriftProfile:
    values = random.Random(1)
    return make_profile(info.name, info.sha256, "cd" * 32, [{"level": values.gauss(-20, 5)} for _ in range(5000)])


class Watched:
    """Signals with a clock of their own, and what they tell."""

    def __init__(self, profile: DriftProfile | None) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.signals = Signals(INFO, profile, lambda: self.now)
        self.registry.register(self.signals)
        self._values = random.Random(2)

    def add(self, mean: float, count: int) -> None:
        for _ in range(count):
            self.signals.add({"level": self._values.gauss(mean, 5), "unknown": 1.0})

    def read(self) -> dict[str, float]:
        lines = generate_latest(self.registry).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {MINE.sub("", name).replace(",}", "}"): float(value) for name, value in pairs}


MINE = re.compile(rf'(?:model="{INFO.name}"|version="{INFO.version}"),?')
LEVEL = '{signal="level"}'
ALL = 'model_signal_bucket{le="+Inf",signal="level"}'  # OpenMetrics: no _count where edges are negative


def test_drift_is_told_only_with_enough_samples() -> None:
    profile = make_level_profile()
    needed = count_needed(profile.signals["level"].counts)
    watched = Watched(profile)
    watched.add(-20, needed - 1)
    few = watched.read()
    assert few[f"model_drift_samples{LEVEL}"] == needed - 1
    assert few[f"model_drift_samples_needed{LEVEL}"] == needed
    assert not any(name.startswith(("model_drift_psi", "model_drift_ks")) for name in few)
    watched.add(-20, 1)
    enough = watched.read()
    assert enough[f"model_drift_psi{LEVEL}"] < 0.1
    assert enough[f"model_drift_ks_pvalue{LEVEL}"] > 0.001


def test_drift_is_that_of_the_latest_window_and_computable_from_the_histograms() -> None:
    watched = Watched(make_level_profile())
    watched.add(-20, 400)
    watched.now = 2 * 3600.0
    watched.add(-10, 400)
    found = watched.read()
    assert found[f"model_drift_samples{LEVEL}"] == 400
    assert found[f"model_drift_psi{LEVEL}"] > 1
    assert found[f"model_drift_ks{LEVEL}"] > 0.5
    assert found[f"model_drift_ks_pvalue{LEVEL}"] < 1e-9
    assert found[ALL] == 800

    fresh = Watched(make_level_profile())
    fresh.add(-10, 400)
    page = fresh.read()

    def counts(name: str) -> list[float]:
        buckets = {key: value for key, value in page.items() if key.startswith(f"{name}_bucket")}
        edges = {float(re.search(r'le="([^"]+)"', key)[1]): value for key, value in buckets.items()}  # type: ignore[index]
        return np.diff([0, *(edges[edge] for edge in sorted(edges))]).tolist()

    by_hand = measure_psi(counts("model_signal_reference"), counts("model_signal"))  # type: ignore[arg-type]
    assert by_hand == pytest.approx(page[f"model_drift_psi{LEVEL}"], abs=1e-12)


def test_a_model_without_a_profile_says_so() -> None:
    watched = Watched(None)
    watched.add(-20, 10)
    assert watched.read() == {'model_drift_profile_info{profile=""}': 0.0}


def test_values_that_are_no_number_are_not_counted() -> None:
    watched = Watched(make_level_profile())
    watched.signals.add({"level": math.nan})
    assert watched.read()[ALL] == 0


def test_requests_are_counted_by_outcome_and_signals_are_those_of_the_audio(
    make_settings: MakeSettings, detector: Detector, speech: Clip, tmp_path: Path
) -> None:
    values = random.Random(3)
    names = ("seconds", "rate", "level", "speech", "confidence")
    rows = [{name: values.random() for name in names} for _ in range(1000)]
    profile = make_profile(detector.info.name, detector.info.sha256, "cd" * 32, rows)
    (tmp_path / "own.json").write_text(render_profile(profile))
    with TestClient(create_app(make_settings(profiles=tmp_path))) as client:
        wait_until_ready(client)
        headers = {"Content-Type": "audio/wav"}
        quiet = encode(0.1 * np.ones(32_000, np.float32), 16_000, "WAV", "FLOAT")
        for body in (quiet, quiet, b"no audio"):
            client.post("/v1/speech", content=body, headers=headers)
        page = client.get("/metrics").text

    def read(name: str, label: str) -> float:
        (line,) = (one for one in page.splitlines() if one.startswith(f"{name}{{") and label in one)
        return float(line.rsplit(" ", 1)[1])

    assert f'version="{detector.info.sha256[:12]}"' in page
    assert (read("model_requests_total", "ok"), read("model_requests_total", "refused")) == (2, 1)
    assert read("model_requests_total", "failed") == 0
    assert read("model_latency_seconds_count", "model") == read("model_confidence_count", "model") == 2
    sums = {name: read("model_signal_sum", f'signal="{name}"') / 2 for name in names}
    assert sums["seconds"] == 2
    assert sums["rate"] == 16_000
    assert sums["level"] == pytest.approx(-20, abs=0.01)
    assert sums["speech"] == 0
    assert 0.5 <= sums["confidence"] <= 1


def test_only_the_models_own_profile_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_profile(tmp_path / "none", INFO) is None
    (tmp_path / "a.json").write_text("{")
    other = make_level_profile(ModelInfo(name="other", sha256="ef" * 32))
    (tmp_path / "b.json").write_text(render_profile(other))
    assert find_profile(tmp_path, INFO) is None
    assert "a.json: is no JSON" in caplog.text
    assert "only ['b.json']" in caplog.text
    (tmp_path / "c.json").write_text(render_profile(make_level_profile()))
    assert find_profile(tmp_path, INFO) == parse_profile(render_profile(make_level_profile()))


def test_program_makes_the_profile_of_a_folder(
    detector: Detector,
    model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SPEECH_MODEL", str(model_path))
    tone = (0.1 * np.sin(np.arange(1600))).astype(np.float32)
    for number in range(230):
        (tmp_path / f"{number:03}.wav").write_bytes(encode(tone, 16_000))
    (tmp_path / "README").write_text("no audio")
    assert program.main(tmp_path) == 0
    out, err = capsys.readouterr()
    profile = parse_profile(out)
    assert (profile.model, profile.sha256) == (detector.info.name, detector.info.sha256)
    assert set(profile.signals) == {"seconds", "rate", "level", "speech", "confidence"}
    assert profile.signals["rate"].counts == (0, 230, 0)
    assert "README" in err
    for path in list(tmp_path.glob("*.wav"))[:100]:
        path.unlink()
    assert program.main(tmp_path) == 1
    assert "130 values are too few" in capsys.readouterr().err
