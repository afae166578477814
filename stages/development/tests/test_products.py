"""The graph that is written again: the published one is what it is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import soxr  # type: ignore[import-untyped]
from clips import Clip

import detector as detectors
from detector import BATCH, OUTPUTS, STATE, Detector, Samples, load_detector, make_hum
from onnx_file import parse_model, render_model, render_node
from products import rewrite
from segments import WINDOW


@pytest.fixture(scope="module")
def published(model_path: Path, detector: Detector) -> Detector:
    return Detector(onnxruntime.InferenceSession(str(model_path)), detector.info)


def test_probabilities_of_speech_are_those_of_the_published_graph(
    detector: Detector, published: Detector, speech: Clip
) -> None:
    samples = soxr.resample(speech.samples, speech.rate, 16_000)
    found, expected = (np.array(list(one.probabilities([samples]))) for one in (detector, published))
    assert expected.max() > 0.9
    assert expected.min() < 0.1
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("count", [1, 2, BATCH])
@pytest.mark.parametrize("loudness", [0.0, 1e-6, 0.1, 1.0])
def test_values_and_states_are_those_of_the_published_graph(model_path: Path, count: int, loudness: float) -> None:
    draw = np.random.default_rng(count)
    given: dict[str, Samples] = {
        "input": (loudness * draw.standard_normal((count, 576))).astype(np.float32),
        "h": (0.1 * draw.standard_normal(STATE)).astype(np.float32),
        "c": (0.1 * draw.standard_normal(STATE)).astype(np.float32),
    }
    data = model_path.read_bytes()
    found, expected = (onnxruntime.InferenceSession(one).run(OUTPUTS, given) for one in (rewrite(data), data))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=1e-4, atol=1e-4)  # cells of the LSTM reach 20


def test_graphs_are_compared_by_something_that_the_model_is_in_doubt_of(published: Detector) -> None:
    values = list(published.probabilities([make_hum()]))
    assert min(values) < 0.01
    assert max(values) > 0.1


def test_the_loaded_model_is_the_faster_graph(detector: Detector, published: Detector) -> None:
    silence = [np.zeros(BATCH * WINDOW, np.float32)]
    assert list(detector.probabilities(silence)) != list(published.probabilities(silence))  # in the last digits


def test_a_graph_that_answers_otherwise_is_not_used(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def rewrite_wrongly(data: bytes) -> bytes:
        model = parse_model(data)
        return rewrite(data.replace(model.weights["output.bias"].tobytes(), np.float32(5).tobytes()))

    monkeypatch.setattr(detectors, "rewrite", rewrite_wrongly)
    loaded = load_detector(model_path, 1)
    assert "used as published" in caplog.text
    published = Detector(onnxruntime.InferenceSession(str(model_path)), loaded.info)
    noise = [0.1 * np.random.default_rng(1).standard_normal(WINDOW * 8).astype(np.float32)]
    assert np.allclose(list(loaded.probabilities(noise)), list(published.probabilities(noise)), atol=1e-7)


def test_a_graph_that_cannot_be_written_is_used_as_it_is(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(detectors, "rewrite", lambda data: rewrite(data[:-1]))
    assert len(list(load_detector(model_path, 1).probabilities([np.zeros(WINDOW, np.float32)]))) == 1
    assert "used as published" in caplog.text


def test_other_networks_and_damaged_files_are_refused(model_path: Path) -> None:
    data = model_path.read_bytes()
    model = parse_model(data)
    other = render_model(model, [render_node("Relu", ["input"], ["speech_probs"], {})], {})
    for bad in (b"", other, data[:1000], data[:-1], b"\xff" * 100, b"\x08"):
        with pytest.raises((ValueError, KeyError)):
            rewrite(bad)
