from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
import reference
import soxr  # type: ignore[import-untyped]
from clips import Clip, encode, make_tone

from analysis import AbandonedError, Analyser, Analysis
from detector import BATCH, CONTEXT, Detector, ModelError, Samples, Windows, load_detector
from segments import WINDOW, Segment, make_rules

RULES = make_rules(threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=30)


def analyse(detector: Detector, data: bytes) -> Analysis:
    analyser = Analyser(detector=detector, max_seconds=10_000)
    return analyser.analyse(io.BytesIO(data), RULES, lambda: False)


def at_16k(clip: Clip) -> Samples:
    samples: Samples = soxr.resample(clip.samples, clip.rate, 16_000)
    return samples


def test_windows_are_the_same_however_the_audio_is_cut() -> None:
    rng = np.random.default_rng(0)
    audio = rng.standard_normal(20_000).astype(np.float32)
    padded = np.pad(audio, (CONTEXT, -len(audio) % WINDOW))
    expected = np.stack([padded[at : at + CONTEXT + WINDOW] for at in range(0, len(padded) - CONTEXT, WINDOW)])
    for sizes in ([20_000], [1] * 700, [511, 513, 1, 0, 64], rng.integers(0, 3000, 50).tolist()):
        windows, at, found = Windows(), 0, []
        for size in (*sizes, 20_000):
            found.append(windows.push(audio[at : at + size]))
            at = min(at + size, len(audio))
        assert np.array_equal(np.concatenate((*found, windows.finish())), expected)


def test_no_audio_makes_no_window(detector: Detector) -> None:
    assert Windows().finish().shape == (0, CONTEXT + WINDOW)
    assert list(detector.probabilities([])) == []


def test_batches_give_what_single_windows_give(detector: Detector, model_path: Path, speech: Clip) -> None:
    samples = at_16k(speech)
    expected = reference.run_model(model_path, samples)
    for size in (160, 4_000, 16_000, len(samples)):
        blocks = (samples[at : at + size] for at in range(0, len(samples), size))
        assert np.allclose(list(detector.probabilities(blocks)), expected, rtol=0, atol=1e-5)


def test_segments_of_speech_are_those_of_the_reference(detector: Detector, model_path: Path, speech: Clip) -> None:
    samples = at_16k(speech)
    expected = reference.find_segments(reference.run_model(model_path, samples), len(samples), RULES)
    found = analyse(detector, encode(speech.samples, speech.rate, "WAV", "FLOAT"))
    assert [(one.start, one.end) for one in found.segments] == expected
    assert expected[0][0] > 8_000
    assert expected[-1][1] < len(samples) - 8_000


def test_silence_tone_and_noise_are_no_speech(detector: Detector) -> None:
    noise = 0.05 * np.random.default_rng(3).standard_normal(16_000 * 5).astype(np.float32)
    for samples in (np.zeros(16_000 * 5, np.float32), make_tone(440, 16_000, 5), noise.astype(np.float32)):
        assert analyse(detector, encode(samples, 16_000)).segments == ()


def test_less_than_a_window_is_analysed(detector: Detector) -> None:
    found = analyse(detector, encode(np.zeros(1, np.float32), 16_000))
    assert found.segments == ()
    assert found.seconds == 1 / 16_000


def test_threads_that_share_a_model_do_not_disturb_each_other(detector: Detector, speech: Clip) -> None:
    data = encode(speech.samples, speech.rate)
    alone = analyse(detector, data).segments
    found: list[tuple[Segment, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(analyse(detector, data).segments)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 8


def test_nobody_waiting_ends_the_work(detector: Detector) -> None:
    asked = iter([False, False, True])
    analyser = Analyser(detector=detector, max_seconds=1_000)
    with pytest.raises(AbandonedError):
        analyser.analyse(io.BytesIO(encode(np.zeros(16_000 * 60, np.float32), 16_000)), RULES, lambda: next(asked))


def test_a_batch_is_run_at_once(detector: Detector) -> None:
    calls: list[int] = []

    class Counting:
        def run(self, names: list[str], given: dict[str, Samples]) -> list[Samples]:
            calls.append(len(given["input"]))
            return [np.zeros(len(given["input"]), np.float32), given["h"], given["c"]]

    counting = Detector(Counting(), detector.info)  # type: ignore[arg-type,unused-ignore]
    list(counting.probabilities([np.zeros(WINDOW * (BATCH + 3), np.float32)]))
    assert calls == [BATCH, 3]


@pytest.mark.parametrize(
    ("data", "words"), [(None, "No such file"), (b"", "not a model"), (b"\x08\x08garbage", "not a model")]
)
def test_a_model_that_cannot_be_used_is_named(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "bad.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelError, match=words) as caught:
        load_detector(path, 1)
    assert str(path) in str(caught.value)
