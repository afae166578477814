"""Services that share GPUs by MPS: real podman, a made-up CDI specification, stand-ins for what is NVIDIA's."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gpuhosts import uuid
from test_gpu_containers import Host, namespace, spec

from tests import nvmlstub
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.mpsstub import mps_programs

pytestmark = pytest.mark.tools
IMAGE = "localhost/tiny/cuda:latest"
TEXT = """
[services.a]
stage = "cuda"
command = ["cuda-program"]
[services.a.gpu]
share = "mps"
mps = { threads = 30, memory = "8g" }
[services.b]
stage = "cuda"
command = ["cuda-program"]
tmpfs = { "/tmp" = "1m", "/dev/shm" = "8m" }
[services.b.gpu]
share = "mps"
count = "all"
mps = { threads = 70, memory = "512m" }
[services.c]
stage = "cuda"
user = "1001:1001"
command = ["cuda-program"]
[environments.t]
services = ["a", "b"]
[environments.other]
services = ["a", "b", "c"]
[environments.other.overrides.c]
gpu = { share = "mps" }
"""
PROGRAM = f"""
import ctypes, json, sys
ctypes.CDLL(sys.argv[1])
from dataclasses import replace
from pathlib import Path
from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Running
from buildkit.errors import BuildkitError
from buildkit.events import StepFinished
from buildkit.running.environment import make_environment
from buildkit.running.flags import make_container
from buildkit.running.mps import with_mps
from buildkit.services.start import StartOptions, replace_service, start_environment
from buildkit.services.state import find_states
from buildkit.services.stop import stop_environment
from buildkit.tools import podman

def describe(stage):
    return make_container({IMAGE!r}, "x", Config(user="1000:1000"), Running(memory="64m", pids=20, stop_seconds=2))

def environment(name="t"):
    services = parse_services({TEXT!r}, stages=("cuda",))
    return with_mps(make_environment(services, name, describe, project=sys.argv[2]))

def up(environment, **options):
    try:
        steps = start_environment(environment, StartOptions(folder=Path("/tmp"), **options), record).steps
    except BuildkitError as error:
        print(error.output, file=sys.stderr)
        raise
    return {{name: str(step) for name, step in steps.items()}}

events = []
def record(event):
    if isinstance(event, StepFinished):
        events.append(f"{{event.phase}} {{event.step}}")

def refused(call):
    try:
        call()
    except BuildkitError as error:
        return error.message
"""


class MpsHost(Host):
    """A host of two GPUs, in the compute mode that MPS wants unless said otherwise."""

    def __init__(self, storage: StorageHost, holder: int) -> None:
        super().__init__(storage, holder)
        self.project = f"m{secrets.token_hex(3)}"  # networks of root are shared by all storages
        self.prefix = f"{self.project}-t"

    def asked(self, program: str, *more: str) -> Any:
        """What the last line of a program evaluates to; ``more`` are lines of the host's description."""
        description = self.storage.folder / "gpus"
        lines = [f"{number}.uuid {uuid(number)}\n{number}.compute-mode 3" for number in range(2)]
        description.write_text(nvmlstub.host(2, *more, *lines))
        *before, last = program.strip().splitlines()
        text = PROGRAM + "\n".join((*before, f"print(json.dumps({last}))"))
        out, errors = self.start_program(text, description, str(nvmlstub.library()), self.project).communicate(
            timeout=120
        )
        assert out, errors
        return json.loads(out.splitlines()[-1])

    def log(self) -> list[str]:
        return self.tool("podman", "exec", f"{self.prefix}-mps", "cat", "/run/mps/log/control.log").splitlines()

    def said(self, container: str) -> str:
        """The last line of a container's log, once it has one."""
        for _ in range(50):
            if lines := self.tool("podman", "logs", container).splitlines():
                return lines[-1]
            time.sleep(0.1)
        raise AssertionError(f"{container} says nothing")

    def inspected(self, key: str, names: Sequence[str] = ("mps", "a", "b")) -> dict[str, str]:
        full = [f"{self.prefix}-{name}" for name in names]
        lines = self.tool("podman", "inspect", "--format", f"{{{{.{key}}}}}", *full).splitlines()
        return dict(zip(names, lines, strict=True))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MpsHost]:
    """The host, on which the environment runs."""
    if os.geteuid() != 0 or shutil.which("podman") is None:
        pytest.skip("podman reads only /etc/cdi, which this test covers in a mount namespace, as root")
    storage = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    storage.prepare(stores=False)
    storage.env["XDG_STATE_HOME"] = str(storage.folder / "state")
    tar = tmp_path_factory.mktemp("cuda") / "root.tar"
    tar.write_bytes(make_root_tar((Path("/usr/bin/stat"),), mps_programs()))
    driver = storage.folder / "nvidia-cuda-mps-control"  # the driver's program comes by CDI, as a file
    driver.write_bytes(mps_programs()["usr/bin/nvidia-cuda-mps-control"])
    driver.chmod(0o755)
    described = json.loads(spec(2))
    mount = {"hostPath": str(driver), "containerPath": "/usr/bin/nvidia-cuda-mps-control", "options": ["ro", "bind"]}
    described["containerEdits"] = {"mounts": [mount]}
    try:
        storage.tool("podman", "import", "--quiet", str(tar), IMAGE)
        with namespace(tmp_path_factory.mktemp("etc"), json.dumps(described)) as holder:
            machine = MpsHost(storage, holder)
            try:
                yield machine
            finally:
                machine.asked("str(stop_environment(environment(), record, volumes=True))")
    finally:
        storage.remove()


@pytest.fixture(scope="module")
def events(host: MpsHost) -> list[str]:
    """What the first start did, in its order."""
    steps, found = host.asked("steps = up(environment())\n[steps, events]")
    assert set(steps.values()) == {"started"}
    return found


def test_clients_start_when_the_daemon_answers_and_have_their_limits(host: MpsHost, events: list[str]) -> None:
    assert events[:3] == ["start mps", "healthy mps", "start a"]
    states = host.asked("{one.name: one.state for one in find_states(environment())}")
    assert states == {"mps": "healthy", "a": "running", "b": "running"}
    assert host.log() == ["Start", "Starting new server for user 1000"]
    found = {}
    for service in ("a", "b"):
        assert host.said(f"{host.prefix}-{service}") == "SERVER 1000"
        variables = host.tool("podman", "exec", f"{host.prefix}-{service}", "env").splitlines()
        found[service] = sorted(line.removeprefix("CUDA_MPS_") for line in variables if line.startswith("CUDA_MPS_"))
    log, pipe = "LOG_DIRECTORY=/run/mps/log", "PIPE_DIRECTORY=/run/mps/pipe"
    assert found == {
        "a": ["ACTIVE_THREAD_PERCENTAGE=30", log, "PINNED_DEVICE_MEM_LIMIT=0=8G", pipe],
        "b": ["ACTIVE_THREAD_PERCENTAGE=70", log, "PINNED_DEVICE_MEM_LIMIT=0=512M,1=512M", pipe],
    }


def test_daemon_has_the_devices_of_all_clients_and_the_folders_are_theirs_alone(
    host: MpsHost, events: list[str]
) -> None:
    names = {name: f"{host.prefix}-{name}" for name in ("mps", "a")}
    devices = {name: host.tool("podman", "exec", full, "ls", "/dev") for name, full in names.items()}
    assert [name in devices["mps"] for name in ("nvidia0", "nvidia1")] == [True, True]
    assert [name in devices["a"] for name in ("nvidia0", "nvidia1")].count(True) == 1
    folders = ("/run/mps", "/run/mps/pipe", "/run/mps/log", "/dev/shm")
    modes = host.tool("podman", "exec", f"{host.prefix}-a", "stat", "--format=%a %u", *folders)
    assert modes.splitlines() == ["755 0", "755 1000", "755 1000", "1777 1000"]
    look = ("stat", "--format=%d", "/dev/shm")
    shared = {host.tool("podman", "exec", f"{host.prefix}-{one}", *look) for one in ("a", "b", "mps")}
    assert len(shared) == 1
    assert "cuda" in host.tool("podman", "exec", f"{host.prefix}-mps", "ls", "/dev/shm")
    assert host.inspected("HostConfig.NetworkMode")["mps"] == "none"


def test_user_that_would_wait_is_refused_before_anything_starts(host: MpsHost, events: list[str]) -> None:
    why = host.asked('refused(lambda: environment("other"))')
    assert "these are several on the host (a, b: 1000; c: 1001)" in why
    volumes = [f"--volume={host.prefix}-mps-pipe:/run/mps/pipe", f"--volume={host.prefix}-mps-shm:/dev/shm"]
    given = ("--user=1001:1001", "--env=CUDA_MPS_PIPE_DIRECTORY=/run/mps/pipe", *volumes)
    limits = host.asked("podman.probe_host().options")
    argv = ("podman", "run", *limits, "--detach", "--network=none", *given, IMAGE, "cuda-program")
    container = host.tool(*argv).strip()  # where the volumes are mounted
    try:
        assert host.said(container) == "WAIT"  # this is what was refused
    finally:
        host.tool("podman", "rm", "--force", "--time=0", container)


def test_gpu_in_another_compute_mode_is_refused_with_the_command_that_mends_it(
    host: MpsHost, events: list[str]
) -> None:
    before = host.inspected("Id")
    why = host.asked("refused(lambda: up(environment()))", "0.compute-mode 0")
    assert f"compute mode EXCLUSIVE_PROCESS for MPS wanted, it is DEFAULT: sudo nvidia-smi --id={uuid(0)}" in why
    assert host.inspected("Id") == before


def test_daemon_that_starts_anew_takes_its_clients_along(host: MpsHost, events: list[str]) -> None:
    first = host.inspected("Id")
    host.tool("podman", "kill", "--signal=KILL", f"{host.prefix}-mps")
    assert host.asked("up(environment())") == dict.fromkeys(("mps", "a", "b"), "replaced")
    second = host.inspected("Id")
    assert all(first[name] != second[name] for name in first)
    assert host.asked("[up(environment()), events][0]") == dict.fromkeys(("mps", "a", "b"), "unchanged")
    assert host.said(f"{host.prefix}-a") == "SERVER 1000"


def test_daemon_that_does_not_answer_leaves_clients_served_by_the_one_before(host: MpsHost, events: list[str]) -> None:
    before = host.inspected("Id")
    why = host.asked("""
made = environment()
daemon = made.get("mps")
silent = replace(daemon, container=replace(daemon.container, command=("-f", "--other")))
silent = replace(silent, container=replace(silent.container, health=replace(silent.container.health, test=("false",))))
others = tuple(silent if one.name == "mps" else one for one in made.services)
refused(lambda: up(replace(made, services=others), patience=1.0))
""")
    assert why.startswith("mps is not healthy after 5 s")  # its start period, which is longer than the patience
    assert host.inspected("Id") == before
    assert host.log() == ["Start", "Starting new server for user 1000"]
    assert host.said(f"{host.prefix}-b") == "SERVER 1000"


def test_end_is_that_of_clients_first_and_leaves_no_volume(host: MpsHost, events: list[str]) -> None:
    ended = host.asked("stop_environment(environment(), record)\nevents")
    assert ended == ["stop stop b", "stop stop a", "stop stop mps"]
    assert host.tool("podman", "volume", "ls", "--quiet") == ""


def test_container_alone_says_that_it_has_no_daemon(host: MpsHost, events: list[str]) -> None:
    said = host.asked("""
import io
from buildkit.declare.gpu_request import GpuRequest
from buildkit.inspection.stage_container import grant_own_gpus
out = io.StringIO()
with grant_own_gpus(replace(describe("cuda"), gpu=GpuRequest(share="mps"), name="x-alone"), out):
    pass
out.getvalue()
""")
    assert said.startswith("warning: x-alone runs without MPS and its limits")
