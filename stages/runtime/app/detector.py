"""The Silero VAD model on ONNX Runtime: audio at 16 kHz in, one speech probability per window of 32 ms out.

The "sequence" export is used (`silero_vad_16k_sequence.onnx`, opset 16): inputs `input` [n, 576], `h` and `c`
[1, 1, 128]; outputs `speech_probs` [n], `hn`, `cn`. It is the same network as the streaming export, to the bit, but
takes many windows a call, so that the loop runs in ONNX Runtime and not under Python's lock. `products` writes its
graph again, which takes a third of the time; its answers are compared with the published graph's at each start.

ONNX Runtime's official builds send telemetry to Microsoft unless told otherwise in the environment *before* they are
loaded (their Privacy.md). This service hears people speak: it is off unless an operator turns it on.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import: it is read when the library is loaded

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from observation import Observation, now
from products import rewrite
from segments import RATE, WINDOW

CONTEXT = 64  # samples of the window before, which the model sees in front of each window
BATCH = 64  # windows a call (2 s): where throughput stops growing; bounds the memory of a run
STATE = (1, 1, 128)
INPUTS = {"input", "h", "c"}
OUTPUTS = ["speech_probs", "hn", "cn"]
TOLERANCE = 1e-4  # of a probability, between the published graph and the faster one

log = logging.getLogger("speech")

Samples = NDArray[np.float32]


class ModelError(Exception):
    """The model file cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Which model answers: its file's name and the SHA-256 of its bytes."""

    name: str
    sha256: str

    @property
    def version(self) -> str:
        """What tells this model from others of its name: the first digits of its digest."""
        return self.sha256[:12]

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:12]})"


class Windows:
    """Cuts a stream of audio blocks into windows of 512 samples, each with the 64 samples before it in front."""

    def __init__(self) -> None:
        self._rest: Samples = np.zeros(CONTEXT, np.float32)  # context, then what is not yet a whole window

    def push(self, block: Samples) -> Samples:
        """Take the next samples and return the windows that they complete, [n, 576]."""
        samples = np.concatenate((self._rest, block))
        count = (samples.size - CONTEXT) // WINDOW
        self._rest = samples[count * WINDOW :].copy()
        if count == 0:
            return np.empty((0, CONTEXT + WINDOW), np.float32)
        return np.lib.stride_tricks.sliding_window_view(samples, CONTEXT + WINDOW)[::WINDOW]

    def finish(self) -> Samples:
        """Return the last window, filled up with zeros, [1, 576]; or [0, 576] where nothing is left."""
        missing = WINDOW - (self._rest.size - CONTEXT)
        return self.push(np.zeros(missing if missing < WINDOW else 0, np.float32))


class Detector:
    """A loaded model. It keeps no state between streams and may be used from many threads at once."""

    def __init__(self, session: onnxruntime.InferenceSession, info: ModelInfo) -> None:
        self._session = session
        self.info = info

    def probabilities(self, blocks: Iterable[Samples], seen: Observation | None = None) -> Iterator[float]:
        """Yield the speech probability of each window of a stream of 16 kHz blocks, the last one zero-filled."""
        windows, seen = Windows(), seen or Observation()
        h = c = np.zeros(STATE, np.float32)
        for ready in _each(windows, blocks):
            for first in range(0, len(ready), BATCH):
                batch = np.ascontiguousarray(ready[first : first + BATCH])
                began = now()
                values, h, c = self._session.run(OUTPUTS, {"input": batch, "h": h, "c": c})
                seen.add_outputs(values, began)
                yield from values.tolist()

    def warm_up(self) -> None:
        """Run the model once, so that what it allocates and checks lazily is done before the first request.

        Raises:
            ModelError: the answer is not one probability per window.
        """
        try:
            found = list(self.probabilities([np.zeros(BATCH * WINDOW, np.float32)]))
        except Exception as error:  # another shape or type, in ONNX Runtime's words
            raise ModelError(f"{self.info.name}: cannot be run: {error}") from error
        if len(found) != BATCH or not all(0 <= value <= 1 for value in found):
            raise ModelError(f"{self.info.name}: {len(found)} values for {BATCH} windows, or not probabilities")


def _each(windows: Windows, blocks: Iterable[Samples]) -> Iterator[Samples]:
    for block in blocks:
        yield windows.push(block)
    yield windows.finish()


def load_detector(path: Path, threads: int) -> Detector:
    """Return the model in `path`, for runs of `threads` threads each, after it has answered once.

    Raises:
        ModelError: the file is missing, is no ONNX model, or is another model than the sequence export.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; set SPEECH_MODEL to the model's file") from error
    onnxruntime.set_default_logger_severity(3)
    info = ModelInfo(name=path.name, sha256=hashlib.sha256(data).hexdigest())
    try:
        session = _open(data, threads)
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise ModelError(f"{path}: not a model that ONNX Runtime can run: {error}") from error
    names = {value.name for value in session.get_inputs()}
    if names != INPUTS:
        raise ModelError(f"{path}: has inputs {sorted(names)}, not {sorted(INPUTS)}: not the sequence export")
    published = Detector(session, info)
    published.warm_up()
    return _find_faster(published, data, threads) or published


def _find_faster(published: Detector, data: bytes, threads: int) -> Detector | None:
    """Return the same network as matrix products, if it answers as the published graph does."""
    try:
        faster = Detector(_open(rewrite(data), threads), published.info)
        audio = [make_hum()]
        off = np.subtract(list(faster.probabilities(audio)), list(published.probabilities(audio)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the published graph answers
        log.warning("the model's graph is used as published: %s", error)
        return None
    if np.abs(off).max() > TOLERANCE:
        log.warning("the model's graph is used as published: products are off by %g", np.abs(off).max())
        return None
    return faster


def make_hum() -> Samples:
    """Return two seconds of a hum between 100 and 140 Hz that swells three times a second: the model is in doubt."""
    time = np.arange(BATCH * WINDOW) / RATE
    phase = 2 * np.pi * 120 * time + 13 * np.sin(9 * time)
    harmonics = [np.sin(number * phase) / number for number in range(1, 30)]
    hum: Samples = (0.1 * (1 + np.sin(19 * time)) * np.sum(harmonics, axis=0)).astype(np.float32)
    return hum


def _open(data: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads cost no CPU
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
