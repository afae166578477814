"""The detector once more, the plain way: whole arrays, one window a call, runs instead of a state machine."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from segments import Rules

Samples = NDArray[np.float32]


def run_model(path: Path, samples: Samples) -> list[float]:
    """Run each window of 512 samples by itself, after the 64 samples before it."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    h = c = np.zeros((1, 1, 128), np.float32)
    padded = np.pad(samples, (64, -len(samples) % 512))
    values = []
    for first in range(0, len(padded) - 64, 512):
        value, h, c = session.run(None, {"input": padded[None, first : first + 576], "h": h, "c": c})
        values.append(float(value[0]))
    return values


def find_segments(values: list[float], total: int, rules: Rules) -> list[tuple[int, int]]:
    """Return (start, end) in samples."""
    speech = mark(values, rules)
    runs = [run for run in find_runs(speech) if min(run[1] * 512, total) - run[0] * 512 > rules.min_speech]
    ends = [(first * 512, total if last == len(values) else last * 512) for first, last in runs]
    return pad(ends, total, rules.pad)


def mark(values: list[float], rules: Rules) -> list[bool]:
    """Return which windows are speech: hysteresis first, then every silence that is too short is filled."""
    speech, state = [], False
    for value in values:
        state = value >= rules.threshold or (state and value >= rules.low)
        speech.append(state)
    for first, last in find_runs([not one for one in speech]):
        quiet = [at for at in range(first, last) if values[at] < rules.low]
        long_enough = bool(quiet) and (quiet[-1] - first) * 512 >= rules.min_silence
        if first > 0 and not long_enough:
            speech[first:last] = [True] * (last - first)
    return speech


def find_runs(flags: list[bool]) -> list[tuple[int, int]]:
    """Return (first, one past the last) of every run of true."""
    edges = np.flatnonzero(np.diff(np.array([False, *flags, False], dtype=np.int8))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def pad(runs: list[tuple[int, int]], total: int, most: int) -> list[tuple[int, int]]:
    """Widen every run by `most`, and two neighbours by no more than half their gap."""
    inner = [min(most, (after[0] - before[1]) // 2) for before, after in itertools.pairwise(runs)]
    left = [min(most, runs[0][0]), *inner] if runs else []
    right = [*inner, min(most, total - runs[-1][1])] if runs else []
    return [(first - a, last + b) for (first, last), a, b in zip(runs, left, right, strict=True)]
