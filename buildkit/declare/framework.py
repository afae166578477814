"""What a stage sets in the frameworks of its image (``[framework]``): text to values."""

from __future__ import annotations

from typing import Any

from buildkit.declare.schema import (
    BooleanSchema,
    KeySchema,
    ListSchema,
    NumberSchema,
    TableSchema,
    TextSchema,
    ValueLocation,
)
from buildkit.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchSettings:
    """Settings of PyTorch: ``memory_fraction`` is of each GPU, ``amp`` is ``bf16`` or ``fp16``; None, empty: unset."""

    memory_fraction: float | None = None
    expandable_segments: bool | None = None
    amp: str = ""
    checkpoint: bool = False
    tf32: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorflowSettings:
    """Settings of TensorFlow: memory of each GPU grows, or has a ``limit`` (a size as ``8g``)."""

    growth: bool = False
    limit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxruntimeSettings:
    """Settings of ONNX Runtime: execution providers, options of CUDA's by their own names, and the CPU's arena."""

    gpu_mem_limit: str = ""
    arena_extend_strategy: str = ""
    cudnn_conv_algo_search: str = ""
    do_copy_in_default_stream: bool | None = None
    enable_cpu_mem_arena: bool | None = None
    providers: tuple[str, ...] = ("CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """Settings of frameworks; None is one that the table does not name. ``threads`` is ``cgroup`` or empty."""

    threads: str = ""
    torch: TorchSettings | None = None
    tensorflow: TensorflowSettings | None = None
    onnxruntime: OnnxruntimeSettings | None = None


_SIZE = TextSchema(r"[1-9][0-9]{0,11}[kmg]?", "a size (512m, 8g; bytes without a letter)")
_MEBIBYTES = TextSchema(r"[1-9][0-9]{0,8}[mg]", "a size in TensorFlow's unit, a mebibyte (512m, 8g)")
_TORCH = TableSchema(
    {
        "memory-fraction": KeySchema(NumberSchema(0.01, 1), "most of each GPU's memory, as a fraction"),
        "expandable-segments": KeySchema(
            BooleanSchema(), "whether segments of the allocator grow (PYTORCH_ALLOC_CONF)"
        ),
        "amp": KeySchema(TextSchema(choices=("bf16", "fp16")), "type of mixed precision"),
        "checkpoint": KeySchema(BooleanSchema(), "whether `checkpointed` modules compute activations again"),
        "tf32": KeySchema(BooleanSchema(), "whether products and convolutions of float32 may use TF32"),
    }
)
_TENSORFLOW = TableSchema(
    {
        "growth": KeySchema(BooleanSchema(), "whether memory of GPUs is taken as it is needed"),
        "limit": KeySchema(_MEBIBYTES, "most memory of each GPU; not with `growth`"),
    },
    rules={"not": {"required": ["growth", "limit"], "properties": {"growth": {"const": True}}}},
)
_STRATEGIES = ("kNextPowerOfTwo", "kSameAsRequested")
_SEARCHES = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT")
_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
_ONNXRUNTIME = TableSchema(
    {
        "gpu-mem-limit": KeySchema(_SIZE, "most memory of CUDA's arena"),
        "arena-extend-strategy": KeySchema(TextSchema(choices=_STRATEGIES), "how the arena grows"),
        "cudnn-conv-algo-search": KeySchema(TextSchema(choices=_SEARCHES), "how cuDNN's convolutions are chosen"),
        "do-copy-in-default-stream": KeySchema(BooleanSchema(), "whether copies wait for the stream of computations"),
        "enable-cpu-mem-arena": KeySchema(BooleanSchema(), "whether memory of the CPU is kept between runs"),
        "providers": KeySchema(
            ListSchema(TextSchema(choices=_PROVIDERS), least=1),
            "execution providers, best first (default: CUDA's, CPU's)",
        ),
    }
)
FRAMEWORK = TableSchema(
    {
        "threads": KeySchema(TextSchema(choices=("cgroup",)), "as many threads as the container may use CPUs"),
        "torch": KeySchema(_TORCH, "settings of PyTorch"),
        "tensorflow": KeySchema(_TENSORFLOW, "settings of TensorFlow"),
        "onnxruntime": KeySchema(_ONNXRUNTIME, "settings of ONNX Runtime"),
    }
)


def parse_framework(read: dict[str, Any] | None, place: ValueLocation) -> Framework | None:
    """Return what `FRAMEWORK` read, None for nothing; report settings that exclude each other."""
    if read is None:
        return None
    tensorflow = TensorflowSettings(**read["tensorflow"]) if "tensorflow" in read else None
    if tensorflow and tensorflow.growth and tensorflow.limit:
        place.at("tensorflow").at("limit").report(
            "excludes `growth`: TensorFlow refuses memory growth on a GPU that has a logical device with a limit",
            "keep `growth` where others use the GPU, too, or `limit` where the size is known",
        )
    return Framework(
        threads=read.get("threads", ""),
        torch=TorchSettings(**read["torch"]) if "torch" in read else None,
        tensorflow=tensorflow,
        onnxruntime=OnnxruntimeSettings(**read["onnxruntime"]) if "onnxruntime" in read else None,
    )
