"""ONNX Runtime: options of sessions, and execution providers with theirs."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from .cpus import count_cpus
from .notice import say_once
from .settings import OnnxRuntime, load_settings

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
DEVICES = Path("/dev")
_NODES = ("nvidia[0-9]*", "dxg", "nvhost-gpu")  # a GPU, one of WSL, one of a Jetson


def session_options() -> Any:
    """Return new ``onnxruntime.SessionOptions``: what the stage says of threads and of the CPU's arena.

    Without an arena, memory that a run needed goes back after it, and each run is a little slower.
    """
    options = import_module("onnxruntime").SessionOptions()
    settings = load_settings()
    if settings.threads:
        options.intra_op_num_threads = count_cpus()
    if settings.onnxruntime and settings.onnxruntime.arena is not None:
        options.enable_cpu_mem_arena = settings.onnxruntime.arena
    return options


def providers() -> list[str | tuple[str, dict[str, str]]]:
    """Return the argument ``providers`` of ``onnxruntime.InferenceSession``: those of the stage that are there.

    The CPU's is always the last. ONNX Runtime would run on the CPU without those that are not there; here that is said.
    """
    chosen = load_settings().onnxruntime or OnnxRuntime()
    present = import_module("onnxruntime").get_available_providers()
    found: list[str | tuple[str, dict[str, str]]] = []
    for name in chosen.providers:
        if name == CPU:
            continue
        if name not in present:
            say_once(f"this onnxruntime has no {name}: it is not used")
        elif not has_gpu():
            say_once(f"there is no GPU: {name} is not used")
        else:
            found.append((name, dict(chosen.cuda)) if name == CUDA and chosen.cuda else name)
    return [*found, CPU]


def has_gpu() -> bool:
    """Return whether this container was given a GPU, by its device nodes: asking CUDA would make forks fail."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1", "NoDevFiles")
    return not hidden and any(any(DEVICES.glob(name)) for name in _NODES)
