"""Element types by their names in ONNX, in Triton's configurations and in its protocol, and what backends take.

Tables: onnx.proto (``TensorProto.DataType``), and "Datatypes" of Triton's user guide, `model_configuration.md`.
"""

from __future__ import annotations

from buildkit.lazy_dataclass import dataclass

ONNX_NAMES = {
    1: "FLOAT", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "STRING", 9: "BOOL",
    10: "FLOAT16", 11: "DOUBLE", 12: "UINT32", 13: "UINT64", 14: "COMPLEX64", 15: "COMPLEX128", 16: "BFLOAT16",
}  # fmt: skip
_RENAMED = {"FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "BFLOAT16": "BF16"}
_COMPLEX = {"COMPLEX64", "COMPLEX128"}
OF_ONNX = {number: f"TYPE_{_RENAMED.get(name, name)}" for number, name in ONNX_NAMES.items() if name not in _COMPLEX}
"""Triton's type for each element type of ONNX that it has one for."""

_ALL = frozenset(OF_ONNX.values())
_ONNXRUNTIME = _ALL - {"TYPE_BF16"}
_TENSORRT = frozenset(f"TYPE_{one}" for one in ("BOOL", "UINT8", "INT8", "INT32", "INT64", "FP16", "FP32", "BF16"))
_PYTORCH = frozenset(f"TYPE_{one}" for one in ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A backend of the server: the file that it looks for in a version's folder, and the types that it takes.

    ``platform`` is its older name, empty if it has none.
    """

    name: str
    file: str
    types: frozenset[str] = _ALL
    platform: str = ""


ONNXRUNTIME, PYTHON, ENSEMBLE = "onnxruntime", "python", "ensemble"
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(name=ONNXRUNTIME, file="model.onnx", types=_ONNXRUNTIME, platform="onnxruntime_onnx"),
        Backend(name=PYTHON, file="model.py"),
        Backend(name="pytorch", file="model.pt", types=_PYTORCH, platform="pytorch_libtorch"),
        Backend(name="tensorrt", file="model.plan", types=_TENSORRT, platform="tensorrt_plan"),
        Backend(name="openvino", file="model.xml"),
    )
}
SCRIPT_TYPES = _ONNXRUNTIME - {"TYPE_STRING"}
"""What our script for the Python backend takes; with NumPy 2, that backend ends at the first text."""
PLATFORMS = {backend.platform: name for name, backend in BACKENDS.items() if backend.platform}
