"""The settings that lie beside this package, in ``settings.json``; a build writes them, and nothing else does."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("settings.json")
FRAMEWORKS = ("torch", "tensorflow", "onnxruntime")


class TorchRuntime(NamedTuple):
    """What is set in PyTorch; ``memory_fraction`` is of each GPU's memory, ``amp`` is ``bf16``, ``fp16`` or empty."""

    memory_fraction: float | None = None
    amp: str = ""
    checkpoint: bool = False
    tf32: bool | None = None


class TensorflowRuntime(NamedTuple):
    """What is set in TensorFlow; ``limit`` are MiB of each GPU, 0 for no limit."""

    limit: int = 0


class OnnxRuntime(NamedTuple):
    """Execution providers, the first that is there wins, options of CUDA's, and whether the CPU's memory is kept."""

    providers: tuple[str, ...] = ()
    cuda: tuple[tuple[str, str], ...] = ()
    arena: bool | None = None


class RuntimeSettings(NamedTuple):
    """All of it; None is a framework that the stage does not name. With ``threads``, CPUs of the cgroup count."""

    threads: bool = False
    torch: TorchRuntime | None = None
    tensorflow: TensorflowRuntime | None = None
    onnxruntime: OnnxRuntime | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The frameworks that the stage names."""
        return tuple(name for name in FRAMEWORKS if getattr(self, name) is not None)


@functools.lru_cache(maxsize=1)
def load_settings() -> RuntimeSettings:
    """Return the settings of this image. Raises FileNotFoundError outside of one."""
    read: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return RuntimeSettings(
        threads=read.get("threads", False),
        torch=TorchRuntime(**read["torch"]) if "torch" in read else None,
        tensorflow=TensorflowRuntime(**read["tensorflow"]) if "tensorflow" in read else None,
        onnxruntime=_onnx(**read["onnxruntime"]) if "onnxruntime" in read else None,
    )


def _onnx(providers: list[str], enable_cpu_mem_arena: bool | None = None, **cuda: str) -> OnnxRuntime:
    return OnnxRuntime(tuple(providers), tuple(sorted(cuda.items())), enable_cpu_mem_arena)
