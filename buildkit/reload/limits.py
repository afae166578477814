"""How many threads native libraries use: one in processes that are forked, the usual number in those that work.

A parallel region of OpenMP hangs in a forked process if its parent ran one with several threads (pytorch#17199). So the
parents run with one thread, and each worker gets back what its environment says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def limit_threads(environ: MutableMapping[str, str]) -> dict[str, str | None]:
    """Ask for one thread each; return what the variables were, for `restore_threads`."""
    environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's import would start a thread for it
    before = {name: environ.get(name) for name in VARIABLES}
    environ.update(dict.fromkeys(VARIABLES, "1"))
    return before


def restore_threads(before: dict[str, str | None]) -> None:
    """Give this process' environment and the libraries that read it already their usual numbers."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    usual = len(os.sched_getaffinity(0))
    wanted = before.get("OMP_NUM_THREADS") or ""
    number = int(wanted) if wanted.isdigit() and int(wanted) > 0 else usual
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(number)
    control = sys.modules.get("threadpoolctl")
    if control is not None and number > 1:
        control.threadpool_limits(number)


def reseed() -> None:
    """Give this process random numbers of its own, where a library does not do so after a fork."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()
