"""Silero VAD's graph with its convolutions as matrix products: the same weights, a third of the time.

ONNX Runtime runs a one-dimensional convolution as a product for each window, of four columns at most, which leaves
most of a processor's vector units idle. Here all windows of a call are the rows of one product. Sums are made in
another order, so that probabilities differ in the sixth digit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_file import Model, parse_model, render_model, render_node

WINDOW, PAD, FRAME, HOP, BINS = 576, 64, 256, 128, 129
FRAMES = (WINDOW + PAD - FRAME) // HOP + 1
STATES = 128
TAPS = 3
STRIDES = (1, 2, 2, 1)  # of the encoder's convolutions


def rewrite(data: bytes) -> bytes:
    """Return the graph of a model file, written again.

    Raises:
        KeyError, ValueError: it is another network.
    """
    model = parse_model(data)
    lstm = [node for node in model.nodes if node.operator == "LSTM"]
    encoder = [node for node in model.nodes if node.operator == "Conv" and "encoder" in node.outputs[0]]
    if len(lstm) != 1 or len(encoder) != len(STRIDES):
        raise ValueError(f"{len(lstm)} LSTM and {len(encoder)} convolutions in the encoder")
    writer = _Writer(model)
    frames = writer.transform()
    frames, width = writer.encode(frames)
    if width != STATES:
        raise ValueError(f"the encoder ends with {width} values")
    writer.decide(frames, lstm[0].inputs)
    return render_model(model, writer.nodes, writer.weights)


class _Writer:
    """Writes the operators one after another; a method takes and returns names of values."""

    def __init__(self, model: Model) -> None:
        self._given = model.weights
        self.nodes: list[bytes] = []
        self.weights: dict[str, NDArray[np.generic]] = {}

    def transform(self) -> str:
        """Return the magnitudes of the short-time Fourier transform, [4n, 129]."""
        padded = self._add("Pad", "input", self._integers(0, 0, 0, PAD), mode="reflect")
        frames = [self._slice(padded, 1, HOP * at, HOP * at + FRAME) for at in range(FRAMES)]
        rows = self._reshape(self._add("Concat", *frames, axis=1), FRAME)
        basis = self._get("stft.forward_basis_buffer", (2 * BINS, 1, FRAME))
        both = self._add("MatMul", rows, self._keep(basis[:, 0].T))
        halves = [self._slice(both, 1, first, first + BINS) for first in (0, BINS)]
        return self._add("Sqrt", self._add("Add", *(self._add("Mul", half, half) for half in halves)))

    def encode(self, rows: str) -> tuple[str, int]:
        """Return the encoder's values, [n, width], and that width, from rows of frames."""
        frames, width = FRAMES, BINS
        for number, stride in enumerate(STRIDES):
            made = (frames + 2 - TAPS) // stride + 1
            kernel = self._get(f"encoder.{number}.weight", (None, width, TAPS))
            windows = self._reshape(rows, frames * width)
            framed = self._reshape(self._add("Pad", windows, self._integers(0, width, 0, width)), frames + 2, width)
            taps = [self._slice(framed, 1, tap, tap + stride * (made - 1) + 1, stride) for tap in range(TAPS)]
            columns = self._reshape(self._add("Concat", *taps, axis=2), TAPS * width)
            product = self._keep(kernel.transpose(2, 1, 0).reshape(TAPS * width, -1))
            bias = self._keep(self._get(f"encoder.{number}.bias", (kernel.shape[0],)))
            rows = self._add("Relu", self._add("Gemm", columns, product, bias))
            frames, width = made, kernel.shape[0]
        return self._reshape(rows, frames * width), frames * width

    def decide(self, rows: str, names: tuple[str, ...]) -> None:
        """Write `speech_probs`, `hn` and `cn` from the encoder's values; `names` are what the LSTM took."""
        shapes = ((1, 4 * STATES, STATES), (1, 4 * STATES, STATES), (1, 8 * STATES))
        weights = [self._keep(self._get(name, shape)) for name, shape in zip(names[1:4], shapes, strict=True)]
        steps = self._reshape(rows, 1, STATES)
        self._write("LSTM", (steps, *weights, "", "h", "c"), ("states", "hn", "cn"), hidden_size=STATES)
        states = self._add("Relu", self._reshape("states", STATES))
        last = self._keep(self._get("output.weight", (1, STATES, 1))[0])
        value = self._add("Sigmoid", self._add("Gemm", states, last, self._keep(self._get("output.bias", (1,)))))
        self._write("Reshape", (value, self._integers(-1)), ("speech_probs",))

    def _get(self, name: str, shape: tuple[int | None, ...]) -> NDArray[np.generic]:
        found = self._given[name]
        if len(found.shape) != len(shape) or any(b not in (None, a) for a, b in zip(found.shape, shape, strict=True)):
            raise ValueError(f"{name} is {found.shape}, not {shape}")
        return found

    def _keep(self, value: NDArray[np.generic]) -> str:
        name = f"weight{len(self.weights)}"
        self.weights[name] = value
        return name

    def _integers(self, *values: int) -> str:
        return self._keep(np.array(values, np.int64))

    def _reshape(self, value: str, *shape: int) -> str:
        return self._add("Reshape", value, self._integers(-1, *shape))

    def _slice(self, value: str, axis: int, first: int, end: int, step: int = 1) -> str:
        return self._add("Slice", value, *(self._integers(one) for one in (first, end, axis, step)))

    def _add(self, operator: str, *inputs: str, **attributes: int | str) -> str:
        name = f"value{len(self.nodes)}"
        self._write(operator, inputs, (name,), **attributes)
        return name

    def _write(self, operator: str, inputs: tuple[str, ...], outputs: tuple[str, ...], **given: int | str) -> None:
        self.nodes.append(render_node(operator, inputs, outputs, given))
