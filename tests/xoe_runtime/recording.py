"""Frameworks that are not there: they record what they are called with.

tests/xoe_runtime/test_frameworks.py proves that the real ones take these calls (nox -s test-frameworks).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Calls = list[tuple[Any, ...]]


def recorder(calls: Calls) -> Callable[..., Callable[..., Any]]:
    """Return a maker of functions that record their name and arguments, and return ``answer``."""

    def function(name: str, answer: Any = None) -> Callable[..., Any]:
        def called(*args: Any, **named: Any) -> Any:
            calls.append((name, *args, *([named] if named else ())))
            return answer

        return called

    return function


def fake_torch(calls: Calls, gpus: int) -> SimpleNamespace:
    """PyTorch with so many GPUs."""
    record = recorder(calls)
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: gpus > 0,
            device_count=lambda: gpus,
            set_per_process_memory_fraction=record("fraction"),
        ),
        backends=SimpleNamespace(cudnn=SimpleNamespace(allow_tf32=None)),
        amp=SimpleNamespace(
            autocast=record("autocast", contextlib.nullcontext("mixed")), GradScaler=record("scaler", "a scaler")
        ),
        bfloat16="bfloat16",
        float16="float16",
        set_num_threads=record("threads"),
        set_float32_matmul_precision=record("matmul"),
    )


def fake_tensorflow(calls: Calls, gpus: int) -> SimpleNamespace:
    """TensorFlow 2 with so many GPUs."""
    record = recorder(calls)
    return SimpleNamespace(
        config=SimpleNamespace(
            list_physical_devices=lambda kind: [f"{kind}:{number}" for number in range(gpus)],
            set_logical_device_configuration=record("limit"),
            LogicalDeviceConfiguration=lambda memory_limit: f"{memory_limit} MiB",
            threading=SimpleNamespace(
                set_intra_op_parallelism_threads=record("intra"), set_inter_op_parallelism_threads=record("inter")
            ),
        )
    )


def fake_onnxruntime(*providers: str) -> SimpleNamespace:
    """ONNX Runtime that was built with these execution providers."""
    return SimpleNamespace(
        get_available_providers=lambda: [*providers, "CPUExecutionProvider"],
        SessionOptions=lambda: SimpleNamespace(intra_op_num_threads=0, enable_cpu_mem_arena=True),
    )
