"""The schema of ``[serve]``, for the parser and for the JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
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
    WordOrTableSchema,
    format_type,
)
from buildkit.declare.serve_settings import BACKENDS, SERVED_NAME
from buildkit.lazy_dataclass import dataclass

_MOST = 1 << 16
_NAME = TextSchema(SERVED_NAME.pattern, "a model's name (letters, digits, `.`, `_`, `-`; not a digit first)")
_TEXT = TextSchema(r"[^\0]+", "a text")
_PATH = TextSchema(r"(?!/)(?!(?:[^\0]*/)?\.\.(?:/|$))[^\0]+", "a path in the repository (relative, without `..`)")
_TENSORS = MapSchema(_TEXT, key_pattern=r"[^\0\n]{1,200}")
_VERSION = r"[1-9][0-9]{0,8}"


@dataclass(frozen=True, slots=True)
class _CountOrGroupsSchema:
    """A number of instances, a group of them, or a list of groups; read as the number or a tuple of tables."""

    count: IntegerSchema
    group: TableSchema
    rules: Mapping[str, Any] = field(default_factory=dict)

    def read(self, value: Any, location: ValueLocation) -> Any:  # noqa: ANN401 - a TOML value is anything
        """Return the number, or the groups."""
        if isinstance(value, int) and not isinstance(value, bool):
            return self.count.read(value, location)
        if isinstance(value, dict):
            value = [value]
        if isinstance(value, list):
            return ListSchema(self.group, least=1).read(value, location)
        location.report(f"must be a number, a table or a list of tables, not {format_type(value)}")
        return None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"anyOf": [self.count.schema(), self.group.schema(), ListSchema(self.group, least=1).schema()]}


_GROUP = TableSchema(
    {
        "count": KeySchema(IntegerSchema(1, _MOST), "how many, on each GPU or on the CPU (default: 1)"),
        "kind": KeySchema(TextSchema(choices=("cpu", "gpu")), "where (default: cpu)"),
        "gpus": KeySchema(
            ListSchema(IntegerSchema(0, 63), least=1), "which of the container's GPUs, from 0 (default: all)"
        ),
    }
)
_BATCHING = TableSchema(
    {
        "preferred": KeySchema(ListSchema(IntegerSchema(1, _MOST), least=1), "sizes that are not waited beyond"),
        "delay": KeySchema(NumberSchema(0, 60000), "milliseconds that a request waits for others (default: 0)"),
        "queue": KeySchema(IntegerSchema(0, 1 << 20), "most requests that wait, else they are refused (default: all)"),
        "timeout": KeySchema(NumberSchema(0, 3600000), "milliseconds after which a waiting request is refused"),
    }
)
_WARM_UP = TableSchema(
    {
        "batch": KeySchema(IntegerSchema(1, _MOST), "its size (default: 1)"),
        "data": KeySchema(TextSchema(choices=("zero", "random")), "what is in it (default: zero)"),
        "shapes": KeySchema(
            MapSchema(ListSchema(IntegerSchema(1, 1 << 31), least=1), key_pattern=r"[^\0\n]{1,200}"),
            "shapes of inputs with dimensions that vary, without the batch's",
        ),
    }
)
_POLICY = TableSchema(
    {
        "latest": KeySchema(IntegerSchema(1, _MOST), "so many of the highest versions"),
        "only": KeySchema(ListSchema(IntegerSchema(1, 999999999), least=1), "these versions"),
    },
    rules={"maxProperties": 1},
)
_MODEL = TableSchema(
    {
        "name": KeySchema(_NAME, "its name for clients", required=True),
        "versions": KeySchema(
            MapSchema(_TEXT, key_pattern=_VERSION), "numbers of versions, and the models of the lock that they are"
        ),
        "file": KeySchema(_PATH, "main file of models with several (default: the only one that the backend reads)"),
        "config": KeySchema(_PATH, "a config.pbtxt of yours, in place of the one that is generated"),
        "script": KeySchema(_PATH, "model.py of a model for the Python backend"),
        "files": KeySchema(ListSchema(_PATH), "text files for the model's folder, such as labels"),
        "max-batch": KeySchema(IntegerSchema(0, _MOST), "largest batch; 0: the batch is a dimension (default: 0)"),
        "threads": KeySchema(IntegerSchema(1, 1024), "threads of an instance (default: its share of the CPUs)"),
        "instances": KeySchema(
            _CountOrGroupsSchema(IntegerSchema(1, _MOST), _GROUP), "copies that work side by side (default: 1)"
        ),
        "batching": KeySchema(_BATCHING, "put requests together (default: no)"),
        "warm-up": KeySchema(_WARM_UP, "a request before an instance counts as ready"),
        "cache": KeySchema(BooleanSchema(), "whether answers to equal requests are kept (default: false)"),
        "policy": KeySchema(
            WordOrTableSchema(_POLICY, {"all": {}}),
            'versions that are loaded: "all", `latest` or `only` (default: all)',
        ),
    },
    rules={"dependentRequired": {"script": ["config"]}},
)
_STEP = TableSchema(
    {
        "model": KeySchema(_NAME, "the model", required=True),
        "version": KeySchema(IntegerSchema(1, 999999999), "its version (default: the latest)"),
        "input": KeySchema(_TENSORS, "the model's inputs, and the ensemble's tensors that they are", required=True),
        "output": KeySchema(_TENSORS, "the model's outputs, and the ensemble's tensors that they are", required=True),
    }
)
_ENSEMBLE = TableSchema(
    {
        "name": KeySchema(_NAME, "its name for clients", required=True),
        "step": KeySchema(ListSchema(_STEP, least=1), "its steps", required=True),
        "output": KeySchema(ListSchema(_TEXT, least=1), "tensors that it returns (default: those that no step takes)"),
    }
)
SERVE = TableSchema(
    {
        "lock": KeySchema(_PATH, "models lock"),
        "target": KeySchema(
            TextSchema(r"/[^\0]*", "an absolute path in the image"), "the repository (default: /models)"
        ),
        "backend": KeySchema(
            TextSchema(choices=BACKENDS),
            "what runs ONNX models: Triton's own backend (the default), or ONNX Runtime in its Python backend",
        ),
        "model": KeySchema(ListSchema(_MODEL), "models"),
        "ensemble": KeySchema(ListSchema(_ENSEMBLE), "ensembles of them"),
    }
)
