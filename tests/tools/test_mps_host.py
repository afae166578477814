"""What /proc tells of control daemons: a real process of the stand-in's, and made-up ones."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from buildkit.tools.mps_host import find_mps_host
from tests.mpsstub import CONTROL, mps_programs


def test_running_daemon_is_found_with_its_folder_and_who_asks_it_is_none(tmp_path: Path) -> None:
    program = tmp_path / CONTROL
    program.write_bytes(mps_programs()[f"usr/bin/{CONTROL}"])
    program.chmod(0o755)
    parent = tmp_path / "private"
    (parent / "pipe").mkdir(parents=True)
    parent.chmod(0o700)
    env = {"CUDA_MPS_PIPE_DIRECTORY": str(parent / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(tmp_path)}
    asks = subprocess.Popen((program,), env=env, stdin=subprocess.PIPE)
    with subprocess.Popen((program, "-f"), env=env) as daemon, asks as asking:
        try:
            while not (parent / "pipe/control").exists():
                time.sleep(0.01)
            found = {one.pid: one for one in find_mps_host().daemons}
        finally:
            daemon.kill()
            asking.kill()
    assert asking.pid not in found
    one = found[daemon.pid]
    assert one.uid == os.getuid()
    assert one.pipe is not None
    assert one.pipe.path == str(parent / "pipe")
    assert dict(one.pipe.parents)[str(parent)] == 0o700
    assert one.pipe.parents[0][0] == "/"


def made_up(root: Path, pid: int, *, cgroup: str = "0::/user.slice", words: str = f"{CONTROL}\0-d\0") -> None:
    folder = root / f"proc/{pid}"
    folder.mkdir(parents=True)
    for name, text in (("comm", "nvidia-cuda-mps\n"), ("cmdline", words), ("environ", "A=b\0"), ("cgroup", cgroup)):
        (folder / name).write_text(text)


def test_daemons_of_containers_and_servers_are_none_of_the_hosts(tmp_path: Path) -> None:
    made_up(tmp_path, 1)
    made_up(tmp_path, 2, cgroup="0::/machine.slice/libpod-0123.scope/container")
    made_up(tmp_path, 3, words="nvidia-cuda-mps-server\0")
    (tmp_path / "proc/4").mkdir()
    (tmp_path / "tmp/nvidia-mps").mkdir(parents=True)
    found = find_mps_host(tmp_path)
    assert [(one.pid, one.pipe and one.pipe.path) for one in found.daemons] == [(1, "/tmp/nvidia-mps")]
    assert (found.default_pipe, found.shm) == (True, None)
