"""The stand-in for NVIDIA's MPS, compiled: its control daemon, and a program that uses CUDA."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("mps_stub.c")
CONTROL, PROGRAM = "nvidia-cuda-mps-control", "cuda-program"


@functools.cache
def mps_programs() -> dict[str, bytes]:
    """Both programs by their paths in an image."""
    compiler = shutil.which("gcc")
    if compiler is None:
        assert "CI" not in os.environ, "the stand-in for MPS needs gcc"
        pytest.skip("the stand-in for MPS needs gcc")
    with tempfile.TemporaryDirectory(prefix="bk-mps-") as folder:
        built = Path(folder) / CONTROL
        subprocess.run((compiler, "-Wall", "-Wextra", "-Werror", "-O1", "-o", built, SOURCE), check=True)
        return {f"usr/bin/{name}": built.read_bytes() for name in (CONTROL, PROGRAM)}
