"""PyTorch 2.3 and later: memory of GPUs, TF32, automatic mixed precision, activation checkpointing."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any, TypeVar

from .notice import say_once
from .settings import TorchRuntime, load_settings

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
_Module = TypeVar("_Module")


def apply_torch(chosen: TorchRuntime, threads: int) -> None:
    """Set thread counts, TF32 and the share of every GPU's memory. Raises what torch raises."""
    torch = import_module("torch")
    if threads:
        torch.set_num_threads(threads)
    if chosen.tf32 is not None:
        # not by `fp32_precision`: with it torch 2.9 to 2.13 refuse to tell these, which other code reads
        torch.set_float32_matmul_precision("high" if chosen.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = chosen.tf32
    if chosen.memory_fraction is not None and _has_gpu(torch, "memory-fraction"):
        for device in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(chosen.memory_fraction, device)


def autocast(device: str = "cuda") -> contextlib.AbstractContextManager[Any]:
    """Return a context of mixed precision as the stage's ``amp`` says; one that does nothing without it, or a GPU.

    ``device="cpu"`` asks for mixed precision on the CPU.
    """
    amp = _chosen().amp
    torch = import_module("torch") if amp else None
    if torch is None or (device == "cuda" and not _has_gpu(torch, "amp")):
        return contextlib.nullcontext()
    found: contextlib.AbstractContextManager[Any] = torch.amp.autocast(device, dtype=getattr(torch, _DTYPES[amp]))
    return found


def grad_scaler(device: str = "cuda") -> Any:
    """Return a ``torch.amp.GradScaler``, which scales with ``amp = "fp16"`` on a GPU alone: bf16 needs none."""
    torch = import_module("torch")
    scales = _chosen().amp == "fp16" and (device != "cuda" or _has_gpu(torch, "amp"))
    return torch.amp.GradScaler(device, enabled=scales)


def checkpointed(module: _Module) -> _Module:
    """Return the ``torch.nn.Module``, whose activations are computed again in the backward pass if the stage says so.

    That trades time for memory, on any device. The module keeps its class, parameters and ``state_dict``.
    """
    if _chosen().checkpoint and not isinstance(getattr(module, "forward", None), _Recomputed):
        module.forward = _Recomputed(module.forward)  # type: ignore[attr-defined]
    return module


class _Recomputed:
    """A ``forward`` that keeps its inputs only; a class, so that copies of the module compute with their own."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        torch = import_module("torch")
        if not torch.is_grad_enabled():
            return self.plain(*inputs, **named)
        checkpoint = import_module("torch.utils.checkpoint").checkpoint
        return checkpoint(self.plain, *inputs, use_reentrant=False, **named)


def _chosen() -> TorchRuntime:
    return load_settings().torch or TorchRuntime()


def _has_gpu(torch: Any, what: str) -> bool:
    if torch.cuda.is_available():
        return True
    say_once(f"torch sees no GPU: {what} of [framework.torch] has no effect")
    return False
