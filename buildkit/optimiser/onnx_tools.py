"""onnxruntime's own tools: graph optimisation, and dynamic and static quantisation."""

from __future__ import annotations

import inspect
import json
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from buildkit.optimiser.scripts import RefusedRequest

Ranges = dict[str, tuple[float, float]]
_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


@contextmanager
def naming_tool(tool: str, path: Path) -> Iterator[None]:
    """Turn whatever a tool raises for a model into a RefusedRequest of one line."""
    try:
        yield
    except RefusedRequest:
        raise
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "") or "no reason given"
        raise RefusedRequest(
            "tool", f"{tool} cannot take {path.name}: {type(error).__name__}: {first[:300]}"
        ) from error


@contextmanager
def _telling_errors_only() -> Iterator[None]:
    """Let onnxruntime, which logs by the root logger, tell no more than errors in the block."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def optimise(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """Write the graph as onnxruntime optimises it at a level whose result is the same on every processor."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = {
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
    }[options.get("level", "extended")]
    settings.optimized_model_filepath = str(target)
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])


def quantise_dynamic(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """Write the model with weights of 8 bits; activations are quantised while it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=options.get("operators"),
        per_channel=options.get("per-channel", False),
        reduce_range=options.get("reduce-range", False),
        weight_type=QuantType[options.get("weight-type", "QInt8")],
        nodes_to_exclude=options.get("exclude"),
    )


def calibrate(source: Path, options: Mapping[str, Any], feeds: Sequence[Mapping[str, Any]]) -> Ranges:
    """Return the ranges of tensors over ``feeds``, snapped outward to three significant digits.

    The last bits of a range depend on the processor, for the float model is run; the snapped ones do not.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "ranges.json"
        _quantise(source, Path(folder) / "model.onnx", options, cache, _FeedReader(feeds))
        listed = json.loads(cache.read_text("utf-8"))["data"]
    found = {name: _range_of(value) for name, value in listed.items()}
    return {name: snap(*pair) for name, pair in sorted(found.items()) if all(map(math.isfinite, pair))}


def quantise_static(source: Path, target: Path, options: Mapping[str, Any], ranges: Ranges) -> None:
    """Write the model with weights and activations of 8 bits, by known ranges of the activations."""
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import (
        TensorData,
        TensorsData,
        save_tensors_data,
    )

    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "ranges.json"
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), cache)
        _quantise(source, target, {**options, "method": "MinMax"}, cache, None)


def _quantise(source: Path, target: Path, options: Mapping[str, Any], cache: Path, reader: Any) -> None:  # noqa: ANN401
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if "calibration_cache_path" not in inspect.signature(quantize_static).parameters:
        raise RefusedRequest("tool", "static quantisation needs an onnxruntime that keeps ranges (1.32 or newer)")
    with _telling_errors_only():
        quantize_static(
            source,
            target,
            reader,
            quant_format=QuantFormat[options.get("format", "QDQ")],
            op_types_to_quantize=options.get("operators"),
            per_channel=options.get("per-channel", False),
            reduce_range=options.get("reduce-range", False),
            activation_type=QuantType[options.get("activation-type", "QUInt8")],
            weight_type=QuantType[options.get("weight-type", "QInt8")],
            nodes_to_exclude=options.get("exclude"),
            calibrate_method=CalibrationMethod[options.get("method", "MinMax")],
            calibration_cache_path=cache,
        )


class _FeedReader:
    """Inputs for onnxruntime's calibration, in their order."""

    def __init__(self, feeds: Sequence[Mapping[str, Any]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)

    def __iter__(self) -> _FeedReader:
        return self

    def __next__(self) -> dict[str, Any]:
        return dict(next(self._feeds))


def _range_of(value: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of a range as onnxruntime writes it: numbers, or arrays as ``{"data": …}``."""

    def number(name: str) -> float:
        found: Any = value[name]
        while isinstance(found, dict):
            found = found["data"]
        while isinstance(found, list):
            (found,) = found
        return float(found)

    return number("lowest"), number("highest")


def snap(low: float, high: float, digits: int = 3) -> tuple[float, float]:
    """Return the range with its ends moved outward to so many significant digits."""
    return -_up(-low, digits) + 0.0, _up(high, digits)


def _up(value: float, digits: int) -> float:
    if value == 0 or not math.isfinite(value):
        return value + 0.0
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return float(f"{math.ceil(_scaled(value, places)) * 10.0**-places:.{max(digits + 1, 1)}g}") + 0.0


def _scaled(value: float, places: int) -> float:
    return float(f"{value * 10.0**places:.9g}")  # 1.23 × 100 is not 123 in binary


def count_operators(path: Path) -> dict[str, int]:
    """Return how often each operator is in a graph and those within it."""
    import onnx

    counts: Counter[str] = Counter()
    pending = [onnx.load(str(path), load_external_data=False).graph]
    while pending:
        for node in pending.pop().node:
            counts[node.op_type] += 1
            pending += [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
            pending += [graph for attribute in node.attribute for graph in attribute.graphs]
    return dict(sorted(counts.items()))


def count_quantised(path: Path) -> dict[str, int]:
    """Return how many operators of each type run on 8 bits: integer forms, and those between (de)quantisers."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    counts: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in _QUANTISED:
            continue
        if (
            "Integer" in node.op_type
            or node.op_type.startswith(("QLinear", "QGemm", "QAttention", "DynamicQuantize"))
            or (len(node.input) > 1 and all(name in dequantised for name in list(node.input)[:2]))
        ):
            counts[node.op_type] += 1
    return dict(sorted(counts.items()))
