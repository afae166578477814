"""Hosts with GPUs that do not exist: a stand-in for NVIDIA's library, in C, under the real binding."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from buildkit.gpu.device import Gpu, GpuProcess, Gpus, MigDevice

SOURCE = Path(__file__).with_name("nvml_stub.c")
DRIVER = "driver 580.65.06\ncuda 13000\n"
GB = 1_000_000_000
NONE = ""
H200 = f"""
{{0}}.name NVIDIA H200
{{0}}.uuid GPU-{{0}}
{{0}}.memory {150 * GB} {140 * GB}
{{0}}.capability 9.0
{{0}}.mig 0
{{0}}.ecc 1
{{0}}.ecc-errors 0
{{0}}.temperature 41
{{0}}.milliwatts 120500
{{0}}.reasons 0x1
{{0}}.compute-mode 0
{{0}}.processes {NONE}
{{0}}.graphics {NONE}
"""


def host(count: int, *more: str) -> str:
    """The description of a host with H200s; lines of ``more`` come first, and so replace theirs."""
    return "\n".join([*more, f"{DRIVER}count {count}", *(H200.format(index) for index in range(count))])


@functools.cache
def library() -> Path:
    """The compiled stand-in."""
    compiler = shutil.which("gcc")
    if compiler is None:
        assert "CI" not in os.environ, "the stand-in for NVML needs gcc"
        pytest.skip("the stand-in for NVML needs gcc")
    folder = tempfile.TemporaryDirectory(prefix="bk-nvml-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "libnvidia-ml.so.1"
    flags = ("-shared", "-fPIC", "-Wall", "-Werror", "-Wl,-soname,libnvidia-ml.so.1")
    subprocess.run((compiler, *flags, "-o", path, SOURCE), check=True)
    return path


def python(program: str, *arguments: object, description: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python that has loaded the stand-in: the binding finds it by its soname."""
    before = f"import ctypes; ctypes.CDLL({str(library())!r})\n"
    env = os.environ | {"NVML_STUB": str(description or os.devnull), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = (sys.executable, "-c", before + program, *map(str, arguments))
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)


_ASK = """
import dataclasses, json, os, sys
from buildkit.tools.gpu import find_gpus
for path in sys.argv[1:]:
    os.environ["NVML_STUB"] = path
    print(json.dumps(dataclasses.asdict(find_gpus())))
"""


def ask(folder: Path, hosts: dict[str, str]) -> dict[str, Gpus]:
    """What `find_gpus` answers on each host, from one Python."""
    paths = [folder / str(number) for number in range(len(hosts))]
    for path, text in zip(paths, hosts.values(), strict=True):
        path.write_text(text)
    done = python(_ASK, *paths)
    assert done.returncode == 0, done.stderr
    return {name: _value(json.loads(line)) for name, line in zip(hosts, done.stdout.splitlines(), strict=True)}


def _value(table: dict) -> Gpus:
    return Gpus(**table | {"devices": tuple(_gpu(row) for row in table["devices"])})


def _gpu(row: dict) -> Gpu:
    many = {
        "mig": None if row["mig"] is None else tuple(MigDevice(**device) for device in row["mig"]),
        "processes": None if row["processes"] is None else tuple(GpuProcess(**one) for one in row["processes"]),
        "throttled": None if row["throttled"] is None else tuple(row["throttled"]),
    }
    return Gpu(**row | many)
