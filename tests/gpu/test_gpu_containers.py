"""Containers that ask for GPUs, with real podman: a made-up CDI specification, and a stand-in for NVIDIA's library."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gpuhosts import uuid

from tests import nvmlstub
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.services.conftest import IMAGE

pytestmark = pytest.mark.tools
HOLD = """set -e
mount -t tmpfs none "$0" && cd "$0" && mkdir upper work
mount -t overlay -o lowerdir=/etc,upperdir=upper,workdir=work none /etc || exit 77
mkdir -p /etc/cdi
cat > /etc/cdi/nvidia.yaml
echo ready
exec sleep 600
"""
BEFORE = f"""
import ctypes, json, os, sys, time
ctypes.CDLL({{library!r}})
from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Running
from buildkit.errors import BuildError
from buildkit.events import ignore_event
from buildkit.inspection.start_container import start_container
from buildkit.running.environment import make_environment
from buildkit.running.flags import make_container
from buildkit.services.start import StartOptions, start_environment
from buildkit.services.stop import stop_environment
from dataclasses import replace
from pathlib import Path

def container(name, **request):
    made = make_container({IMAGE!r}, name, Config(user="1000:1000"), Running(memory="64m", pids=20, stop_seconds=1))
    made = replace(made, command=("sleep", "60"))
    return replace(made, gpu=GpuRequest(**request)) if request.pop("asks", True) else made
"""


def spec(count: int) -> str:
    """A specification by which /dev/nvidiaN are harmless devices."""
    devices = [
        {
            "name": name,
            "containerEdits": {
                "env": [f"MADE_UP_{number}={name}"],
                "deviceNodes": [{"path": f"/dev/nvidia{number}", "hostPath": "/dev/zero"}],
            },
        }
        for number in range(count)
        for name in (str(number), uuid(number))
    ]
    return json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices})


class Host:
    """podman with storage of its own, in a mount namespace whose /etc/cdi describes two GPUs."""

    def __init__(self, storage: StorageHost, holder: int) -> None:
        self.storage = storage
        self._enter = ("nsenter", f"--target={holder}", "--mount", "--")

    def start(self, program: str, *, gpus: int = 2) -> subprocess.Popen[str]:
        description = self.storage.folder / f"gpus-{gpus}"
        lines = [line for number in range(gpus) for line in (f"{number}.uuid {uuid(number)}",)]
        description.write_text(nvmlstub.host(gpus, *lines))
        return self.start_program(BEFORE.format(library=str(nvmlstub.library())) + program, description)

    def start_program(self, program: str, description: Path, *arguments: str) -> subprocess.Popen[str]:
        env = self.storage.env | {"NVML_STUB": str(description), "PYTHONPATH": os.pathsep.join(sys.path)}
        argv = (*self._enter, sys.executable, "-c", program, *arguments)
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def python(self, program: str, *, gpus: int = 2) -> Any:
        """What a program prints, as JSON, and its errors."""
        process = self.start(program, gpus=gpus)
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return json.loads(out.splitlines()[-1]), errors

    def tool(self, *argv: str) -> str:
        return StorageHost(self.storage.folder, before=self._enter, env=self.storage.env).tool(*argv)

    def running(self) -> set[str]:
        return set(self.storage.tool("podman", "ps", "--all", "--format", "{{.Names}}").split())

    def inside(self, name: str) -> dict[str, str]:
        """The made-up variables of a container's program, and its devices."""
        script = "echo /dev/nvidia*; perl -0ne 'chomp, print qq($_\\n) if /^MADE_UP/' /proc/1/environ"
        words = self.storage.tool("podman", "exec", name, "bash", "-c", script).split()
        return {key: value for key, _, value in (word.partition("=") for word in words)}


@contextmanager
def namespace(folder: Path, text: str) -> Iterator[int]:
    argv = ("unshare", "--mount", "--propagation=private", "sh", "-c", HOLD, str(folder))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(text.encode())
        holder.stdin.close()
        try:
            if holder.stdout.readline() != b"ready\n":
                pytest.skip("nothing can be mounted over /etc")
            yield holder.pid
        finally:
            holder.kill()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if os.geteuid() != 0 or shutil.which("podman") is None:
        pytest.skip("podman reads only /etc/cdi, which this test covers in a mount namespace, as root")
    storage = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    storage.prepare(stores=False)
    storage.env["XDG_STATE_HOME"] = str(storage.folder / "state")
    tar = tmp_path_factory.mktemp("root") / "root.tar"
    tar.write_bytes(make_root_tar((Path("/usr/bin/perl"), Path("/usr/bin/sleep"))))
    try:
        storage.tool("podman", "import", "--quiet", str(tar), IMAGE)
        with namespace(tmp_path_factory.mktemp("etc"), spec(2)) as holder:
            yield Host(storage, holder)
    finally:
        storage.remove()


@pytest.fixture
def host(machine: Host) -> Iterator[Host]:
    """The same, without containers."""
    yield machine
    machine.storage.tool("podman", "rm", "--force", "--all", "--time=0")


RUN = """
results = []
for one in {containers}:
    try:
        results.append(start_container(one, detach=True))
    except BuildError as error:
        results.append(f"{{error.exit_code}} {{error.message}}")
print(json.dumps(results))
"""
LIST = """
import contextlib, io
from buildkit.cli import gpus
with contextlib.redirect_stdout(io.StringIO()) as out:
    gpus.run(Path("."), ("--json",))
    gpus.run(Path("."), ())
text, _, tables = out.getvalue().partition("\\n}\\n")
assert "x-0" in tables and "exclusive" in tables, tables
print(json.dumps([[one[key] for key in ("uuid", "container", "share")] for one in json.loads(text + "}")["held"]]))
"""


def test_each_container_gets_a_gpu_of_its_own_until_there_is_none(host: Host) -> None:
    program = RUN.format(containers="[container(f'x-{n}', count=1) for n in range(3)]")
    (first, second, third), _ = host.python(program)
    assert (first, second) == (0, 0)
    assert third.startswith("1 nothing was started: GPUs cannot be had\nx-2 wants 1 GPU:")
    assert f"{uuid(0)} (0, NVIDIA H200): an exclusive GPU wanted, the container x-0 has it (exclusive)" in third
    assert host.running() == {"x-0", "x-1"}
    listed, _ = host.python(LIST)
    assert listed == [[uuid(0), "x-0", "exclusive"], [uuid(1), "x-1", "exclusive"]]
    for number in (0, 1):
        assert host.inside(f"x-{number}") == {f"MADE_UP_{number}": uuid(number), f"/dev/nvidia{number}": ""}


def test_device_that_somebody_else_started_a_container_with_is_his(host: Host) -> None:
    limits, _ = host.python("from buildkit.tools.podman import probe_host; print(json.dumps(probe_host().options))")
    device = ("--device", "nvidia.com/gpu=0")
    host.tool("podman", "run", *limits, "--detach", "--network=none", "--name=his", *device, IMAGE, "sleep", "60")
    (found,), _ = host.python(RUN.format(containers="[container('x-0', devices=('0',))]"))
    assert "the container his has it (exclusive)" in found
    assert host.running() == {"his"}


def test_optional_request_runs_on_the_cpu_and_says_so(host: Host) -> None:
    (found,), errors = host.python(RUN.format(containers="[container('x-0', capability='12.0', optional=True)]"))
    assert found == 0
    assert "warning: x-0 runs on the CPU, its GPUs cannot be had" in errors
    assert "compute capability 12.0 wanted, it has 9.0" in errors
    assert host.inside("x-0") == {"/dev/nvidia*": ""}


def test_unknown_device_of_an_option_is_refused_before_podman(host: Host) -> None:
    program = RUN.format(containers="[replace(container('x-0', asks=False), options=('--device=nvidia.com/gpu=7',))]")
    (found,), _ = host.python(program)
    assert found.startswith("1 nothing was started: podman has no device nvidia.com/gpu=7: there are nvidia.com/gpu=0,")
    program = RUN.format(containers="[replace(container('x-0', asks=False), options=('--gpus=all',))]")
    (found,), _ = host.python(program)
    assert found.startswith("1 nothing was started: podman reads --gpus=all in other ways than Docker")
    assert host.running() == set()


def test_of_two_that_start_at_once_one_gets_the_only_gpu(host: Host) -> None:
    wait = "while time.time() < {at}: pass\n"
    at = time.time() + 2.0
    both = [host.start(wait.format(at=at) + RUN.format(containers=f"[container('x-{n}')]"), gpus=1) for n in range(2)]
    answers = sorted(str(json.loads(one.communicate(timeout=60)[0].splitlines()[-1])[0]) for one in both)
    assert answers[0] == "0"
    assert "1 nothing was started: GPUs cannot be had" in answers[1]
    assert len(host.running()) == 1


TEXT = """
[services.one]
stage = "server"
command = ["sleep", "60"]
gpu = {}
[services.two]
stage = "server"
command = ["sleep", "60"]
[services.two.gpu]
share = "time-slice"
[services.three]
stage = "server"
command = ["sleep", "60"]
[services.three.gpu]
share = "time-slice"
[environments.t]
services = ["one", "two", "three"]
"""
PROJECT = f"g{secrets.token_hex(4)}"  # networks of root are shared by all storages
UP = f"""
text = {TEXT!r}
def up(text):
    services = parse_services(text, stages=("server",))
    environment = make_environment(services, "t", lambda stage: container("x", asks=False), project={PROJECT!r})
    try:
        found = start_environment(environment, StartOptions(folder=Path("/tmp")), ignore_event)
        return {{name: str(step) for name, step in found.steps.items()}}
    except BuildError as error:
        return f"{{error.exit_code}} {{error.message}}"
services = parse_services(text, stages=("server",))
environment = make_environment(services, "t", lambda stage: container("x", asks=False), project={PROJECT!r})
try:
    print(json.dumps([{{calls}}]))
finally:
    stop_environment(environment, ignore_event)
"""


def test_environment_gets_distinct_gpus_keeps_them_and_refuses_as_a_whole(host: Host) -> None:
    """`calls` are made one after another, in one process."""
    names = " ".join(f"{PROJECT}-t-{name}" for name in ("one", "two", "three"))
    look = f"os.popen('podman inspect --format \"{{{{.Config.Labels}}}}\" {names}').read()"
    more = "text.replace('gpu = {}', 'gpu = { count = 2 }')"
    found, _ = host.python(UP.replace("{calls}", f"up(text), up(text), {look}, up({more}), {look}"))
    started, again, labels, refused, after = found
    assert started == dict.fromkeys(("one", "two", "three"), "started")
    assert again == dict.fromkeys(("one", "two", "three"), "unchanged")
    one, two, three = labels.splitlines()
    assert uuid(0) in one
    assert uuid(1) in two
    assert uuid(1) in three
    assert refused.startswith("1 nothing was started")
    assert after == labels, "what runs is left alone"
    assert host.running() == set()
