"""The schemas of ``[[derive]]`` in a models file, and of ``[model.derived]`` in its lock."""

from __future__ import annotations

from typing import Any

from buildkit.declare.schema import (
    BooleanSchema,
    IntegerSchema,
    KeySchema,
    ListSchema,
    MapSchema,
    NumberSchema,
    TableSchema,
    TextSchema,
    ValueLocation,
    ValueSchema,
    suggest_word,
)
from buildkit.digest import canonical_json

OPTIMISER = "optimiser"
"""The stage in whose container models are derived, if a derivation names no other."""
SCRIPT = r"(?!.*(?:^|/)\.\.?(?:/|:))[^/\\:\s][^\\:\n]*\.py:[A-Za-z_][A-Za-z0-9_]*"
_DATA = r"path:(?!/)(?!(?:.*/)?\.\.(?:/|$))\S.*|[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME = TextSchema(pattern=r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", expected="a usable name")
FUNCTION_WORDS = TextSchema(pattern=SCRIPT, expected="a function of a script (`evaluation/accuracy.py:f1`)")
DATA_WORDS = TextSchema(pattern=_DATA, expected="`path:FOLDER` or the name of a model")
_TYPES = TextSchema(choices=("QInt8", "QUInt8"))
_FILE = TextSchema(pattern=r"(?!.*(?:^|/)\.\.?(?:/|$))[^/\\\n].*", expected="a path in the model")
_NAMES = ListSchema(TextSchema(), least=1)
_PROCESSOR = "its bytes depend on the processor; `extended` is the same everywhere, and loading does the rest"


def _advise_level(value: str) -> str:
    return _PROCESSOR if value in ("all", "layout") else ""


_QUANTISE: dict[str, ValueSchema] = {
    "file": _FILE,
    "weight-type": _TYPES,
    "per-channel": BooleanSchema(),
    "reduce-range": BooleanSchema(),
    "operators": _NAMES,
    "exclude": _NAMES,
}
OPTIONS: dict[str, dict[str, ValueSchema]] = {
    "onnx-optimise": {"file": _FILE, "level": TextSchema(choices=("basic", "extended"), advise=_advise_level)},
    "onnx-quantise-dynamic": _QUANTISE,
    "onnx-quantise-static": {
        **_QUANTISE,
        "activation-type": _TYPES,
        "format": TextSchema(choices=("QDQ", "QOperator")),
        "method": TextSchema(choices=("MinMax", "Entropy", "Percentile")),
        "calibration": DATA_WORDS,
        "samples": IntegerSchema(least=1, most=64),
    },
    "torch-to-onnx": {
        "export": FUNCTION_WORDS,
        "opset": IntegerSchema(least=7, most=100),
        "output": TextSchema(pattern=r"[^/\\]+\.onnx", expected="the name of an ONNX file"),
    },
    "to-safetensors": {"file": _FILE, "key": TextSchema()},
}
"""The tools, each with its options; a script of the project is a tool, too, with options of its own."""
ONNX_TOOLS = ("onnx-optimise", "onnx-quantise-dynamic", "onnx-quantise-static")
LOSSY_TOOLS = ("onnx-quantise-dynamic", "onnx-quantise-static")


class _AnyTable:
    """The options of a tool: a table, whose values are checked once the tool is known."""

    def read(self, value: Any, location: ValueLocation) -> dict[str, Any] | None:  # noqa: ANN401
        if not isinstance(value, dict):
            location.report("must be a table")
            return None
        try:
            canonical_json(value)
        except TypeError:
            location.report("must hold text, numbers, booleans, lists and tables")
            return None
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}


class _RangeSchema:
    """The two ends of a range of a tensor."""

    _ends = ListSchema(NumberSchema(least=-1e39, most=1e39), least=2)

    def read(self, value: Any, location: ValueLocation) -> tuple[Any, ...] | None:  # noqa: ANN401
        if isinstance(value, list) and len(value) > len(("low", "high")):
            location.report("must be two numbers")
            return None
        return self._ends.read(value, location)

    def schema(self) -> dict[str, Any]:
        return {**self._ends.schema(), "maxItems": 2}


_RATIO = NumberSchema(least=0, most=1000)
_GATE = TableSchema(
    {
        "data": KeySchema(DATA_WORDS, "what the metric is computed over: `path:FOLDER`, or a model of this file"),
        "metric": KeySchema(
            FUNCTION_WORDS, "function (model, folder) → number of a script: `evaluation/accuracy.py:f1`"
        ),
        "better": KeySchema(TextSchema(choices=("higher", "lower")), "which numbers are better (default: higher)"),
        "max-loss": KeySchema(NumberSchema(least=0, most=1e9), "most that the metric may be worse than that of `from`"),
        "max-size": KeySchema(_RATIO, "most bytes, as a share of those of `from`"),
        "max-latency": KeySchema(_RATIO, "longest time of a call, as a share of that of `from`"),
    }
)
_TOOL = TextSchema(
    pattern=f"{'|'.join(OPTIONS)}|{SCRIPT}",
    expected=f"a tool: {', '.join(OPTIONS)}, or a function of a script (`derive/prune.py:main`)",
    advise=lambda value: suggest_word(value, list(OPTIONS)),
)
_STAGE = TextSchema(pattern=r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", expected="a stage name")
DERIVE = KeySchema(
    ListSchema(
        TableSchema(
            {
                "name": KeySchema(_NAME, "the name of the derived model", required=True),
                "from": KeySchema(_NAME, "the model that it is made of, which may be derived itself", required=True),
                "tool": KeySchema(_TOOL, _TOOL.expected, required=True),
                "options": KeySchema(_AnyTable(), "options of the tool"),
                "stage": KeySchema(_STAGE, f"the stage in which the tool runs (default: {OPTIMISER})"),
                "target": KeySchema(
                    TextSchema(pattern=r"/(?!.*(?:^|/)\.\.?(?:/|$)).+", expected="an absolute path"),
                    "the model's own folder in images (default: below the stage's `target`)",
                ),
                "gate": KeySchema(_GATE, "what it must hold against `from`"),
            }
        )
    ),
    "models made of others",
)
LOCKED_DERIVATION = TableSchema(
    {
        "tool": KeySchema(_TOOL, "the tool", required=True),
        "options": KeySchema(_AnyTable(), "its options"),
        "stage": KeySchema(_STAGE, "the stage", required=True),
        "gate": KeySchema(_GATE, "the gate that it has passed"),
        "report": KeySchema(MapSchema(TextSchema(), key_pattern=r"[a-z][a-z0-9-]*"), "what was found when it was made"),
        "ranges": KeySchema(
            MapSchema(_RangeSchema(), key_pattern=r"[^\x00-\x1f]*"),
            "the ranges of tensors that quantisation goes by",
        ),
    }
)
