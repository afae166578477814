"""What we rely on in NVIDIA's control daemon: of the stand-in everywhere, of the real one on a machine with a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.declare.gpu_request import MpsLimits
from buildkit.gpu.mps import ASK, CONTROL, EXCLUSIVE, limit_variables
from buildkit.tools.gpu import find_gpus
from tests.mpsstub import mps_programs
from tests.waiting import wait_until

MIB = 1 << 20


class Daemon:
    """A control daemon with a folder of its own, which has a short path."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        for name in ("pipe", "log"):
            (folder / name).mkdir(mode=0o755)
            self.env[f"CUDA_MPS_{name.upper()}_DIRECTORY"] = str(folder / name)

    def ask(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (self.program,), env=self.env, input=f"{command}\n", capture_output=True, text=True, timeout=30
        )


def stand_in(folder: Path) -> Path:
    program = folder / CONTROL
    program.write_bytes(mps_programs()[f"usr/bin/{CONTROL}"])
    program.chmod(0o755)
    return program


def real(_folder: Path) -> Path:
    program = shutil.which(CONTROL)
    modes = {gpu.compute_mode for gpu in find_gpus().devices if gpu.mig is None}
    if program is None or not modes:
        pytest.skip(f"needs a GPU and {CONTROL}, which comes with NVIDIA's driver")
    return Path(program)


@pytest.fixture(params=[pytest.param(stand_in, id="stand-in"), pytest.param(real, id="real", marks=pytest.mark.gpu)])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="mps-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Daemon(request.param(folder), folder)


def answers(daemon: Daemon) -> bool:
    return daemon.ask(ASK).stdout[:1].isdigit()


def test_daemon_in_the_foreground_answers_once_it_works_and_ends_when_told(daemon: Daemon) -> None:
    assert not answers(daemon), "nobody answers before it runs"
    with subprocess.Popen((daemon.program, "-f"), env=daemon.env, stdout=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: answers(daemon))
            assert float(daemon.ask(ASK).stdout) == 100.0
            assert (Path(daemon.env["CUDA_MPS_PIPE_DIRECTORY"]) / f"{CONTROL}.pid").exists()
            daemon.ask("set_default_active_thread_percentage 40")
            assert float(daemon.ask(ASK).stdout) == 40.0
            daemon.ask("quit")
            assert running.wait(30) == 0
        finally:
            running.kill()
    assert not answers(daemon)


_ALLOCATE = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
pointer, context = ctypes.c_uint64(), ctypes.c_void_p()
def do(name, *words):
    if error := getattr(cuda, name)(*words):
        sys.exit(f"{name}: {error}")
do("cuInit", 0)
do("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
do("cuCtxSetCurrent", context)
for size in map(int, sys.argv[1:]):
    print(getattr(cuda, "cuMemAlloc_v2")(ctypes.byref(pointer), ctypes.c_size_t(size)), flush=True)
"""
_OUT_OF_MEMORY = "2"  # CUDA_ERROR_OUT_OF_MEMORY


@pytest.mark.gpu
def test_two_clients_have_their_own_caps_and_more_than_the_cap_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="mps-") as name:
        daemon = Daemon(real(Path(name)), Path(name))
        mode = find_gpus().devices[0].compute_mode
        with subprocess.Popen((daemon.program, "-f"), env=daemon.env, stdout=subprocess.DEVNULL) as running:
            try:
                wait_until(lambda: answers(daemon))
                small = _run(daemon, MpsLimits(threads=30, memory="1g"), 256 * MIB, 2048 * MIB)
                large = _run(daemon, MpsLimits(threads=70, memory="4g"), 2048 * MIB, 8192 * MIB)
                assert (small, large) == (["0", _OUT_OF_MEMORY],) * 2, (
                    f"the GPU is in compute mode {mode}, not {EXCLUSIVE}"
                )
                assert daemon.ask("get_server_list").stdout.strip().isdigit()
            finally:
                daemon.ask("quit")
                running.kill()


def _run(daemon: Daemon, limits: MpsLimits, *sizes: int) -> list[str]:
    """What each allocation of a client answers, in bytes asked for."""
    env = daemon.env | dict(limit_variables(limits, 1))
    argv = (sys.executable, "-c", _ALLOCATE, *map(str, sizes))
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
