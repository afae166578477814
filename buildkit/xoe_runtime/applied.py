"""What is set once in a process: thread counts, and memory of GPUs."""

from __future__ import annotations

import os

from .cpus import count_cpus
from .pytorch import apply_torch
from .settings import load_settings
from .tensor_flow import apply_tensorflow

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def apply(*frameworks: str) -> None:
    """Set what the stage says for ``frameworks``, by default for all that it names; they are imported.

    Call it before anything else imports or uses them: numeric libraries read their thread count when they are loaded,
    and TensorFlow refuses changes once it has started. Thread counts that the environment has are kept. Raises
    ValueError for a framework that the stage does not name, and what the framework raises.
    """
    settings = load_settings()
    for name in frameworks:
        if name not in settings.named:
            known = ", ".join(settings.named) or "none"
            raise ValueError(f"[framework] of this image's stage does not name {name!r}, but {known}")
    names = frameworks or settings.named
    threads = count_cpus() if settings.threads else 0
    if threads:
        for variable in _THREADS:
            os.environ.setdefault(variable, str(threads))
    if settings.torch is not None and "torch" in names:
        apply_torch(settings.torch, threads)
    if settings.tensorflow is not None and "tensorflow" in names:
        apply_tensorflow(settings.tensorflow, threads)
