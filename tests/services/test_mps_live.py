"""Services that share GPUs through a control daemon, with real podman and a stand-in for NVIDIA's program."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Running
from buildkit.errors import BuildError, DefinitionError
from buildkit.events import Event, StepFinished, ignore_event
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container
from buildkit.running.mps import with_mps
from buildkit.services.start import StartOptions, replace_service, start_environment
from buildkit.services.state import find_states
from buildkit.services.stop import stop_environment
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.mpsstub import mps_programs

pytestmark = pytest.mark.tools
IMAGE = "localhost/tiny/cuda:latest"
OPTIONS = StartOptions(folder=Path(__file__).parent, patience=20.0)
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
count = 2
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


def describe(_stage: str) -> ContainerSpec:
    return make_container(IMAGE, "tiny-cuda", Config(user="1000:1000"), Running(memory="64m", pids=20, stop_seconds=2))


@pytest.fixture(scope="module")
def plain(server: StorageHost, tmp_path_factory: pytest.TempPathFactory) -> RunningEnvironment:
    """The environment before the daemon joins it, and its image in storage."""
    tar = tmp_path_factory.mktemp("cuda") / "root.tar"
    tar.write_bytes(make_root_tar((Path("/usr/bin/stat"),), mps_programs()))
    server.tool("podman", "import", "--quiet", str(tar), IMAGE)
    services = parse_services(TEXT, stages=("cuda",))
    return make_environment(services, "t", describe, project=f"t{secrets.token_hex(4)}")


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def environment(plain: RunningEnvironment, events: list[Event]) -> Iterator[RunningEnvironment]:
    """The environment with its daemon, running."""
    environment = with_mps(plain)
    try:
        start_environment(environment, OPTIONS, events.append)
        yield environment
    finally:
        stop_environment(environment, ignore_event, volumes=True)


def name_of(environment: RunningEnvironment, service: str) -> str:
    return environment.get(service).container.name


def started_at(host: StorageHost, container: str) -> str:
    return host.tool("podman", "inspect", "--format", "{{.State.StartedAt}}", container)


def log_of(host: StorageHost, environment: RunningEnvironment) -> list[str]:
    return host.tool("podman", "exec", name_of(environment, "mps"), "cat", "/run/mps/log/control.log").splitlines()


def test_clients_start_when_the_daemon_answers_and_are_served_with_their_limits(
    server: StorageHost, environment: RunningEnvironment, events: list[Event]
) -> None:
    steps = [(event.step, event.phase) for event in events if isinstance(event, StepFinished)]
    assert steps[:3] == [("mps", "start"), ("mps", "healthy"), ("a", "start")]
    assert {state.name: state.state for state in find_states(environment)} == {
        "mps": "healthy", "a": "running", "b": "running",
    }  # fmt: skip
    assert log_of(server, environment) == ["Start", "Starting new server for user 1000"]
    found = {}
    for service in ("a", "b"):
        container = name_of(environment, service)
        assert server.tool("podman", "logs", container) == "SERVER 1000\n"
        variables = server.tool("podman", "exec", container, "env").splitlines()
        found[service] = sorted(line.removeprefix("CUDA_MPS_") for line in variables if line.startswith("CUDA_MPS_"))
    places = ["LOG_DIRECTORY=/run/mps/log", "PIPE_DIRECTORY=/run/mps/pipe"]
    assert found == {
        "a": ["ACTIVE_THREAD_PERCENTAGE=30", places[0], "PINNED_DEVICE_MEM_LIMIT=0=8G", places[1]],
        "b": ["ACTIVE_THREAD_PERCENTAGE=70", places[0], "PINNED_DEVICE_MEM_LIMIT=0=512M,1=512M", places[1]],
    }


def test_folders_are_those_of_the_clients_alone(server: StorageHost, environment: RunningEnvironment) -> None:
    folders = ("/run/mps", "/run/mps/pipe", "/run/mps/log", "/dev/shm")
    modes = server.tool("podman", "exec", name_of(environment, "a"), "stat", "--format=%a %u", *folders)
    assert modes.splitlines() == ["755 0", "755 1000", "755 1000", "1777 1000"]
    shared = {
        server.tool("podman", "exec", name_of(environment, service), "stat", "--format=%d", "/dev/shm")
        for service in ("a", "b", "mps")
    }
    assert len(shared) == 1
    assert "cuda" in server.tool("podman", "exec", name_of(environment, "mps"), "ls", "/dev/shm")
    config = json.loads(server.tool("podman", "inspect", name_of(environment, "mps")))[0]
    assert config["HostConfig"]["NetworkMode"] == "none"
    assert config["HostConfig"]["ReadonlyRootfs"]


def test_a_user_that_would_wait_is_refused_before_anything_starts(
    server: StorageHost, environment: RunningEnvironment
) -> None:
    services = parse_services(TEXT, stages=("cuda",))
    with pytest.raises(DefinitionError, match=r"several on the host \(a, b: 1000; c: 1001\)"):
        with_mps(make_environment(services, "other", describe, project=environment.project))
    volumes = [f"--volume={mount.text}" for mount in environment.get("a").container.mounts]
    given = ("--user=1001:1001", "--env=CUDA_MPS_PIPE_DIRECTORY=/run/mps/pipe", *volumes)
    container = server.tool("podman", "run", "--detach", "--network=none", *given, IMAGE, "cuda-program").strip()
    try:
        assert server.tool("podman", "logs", container) == "WAIT\n"  # this is what was refused
    finally:
        server.tool("podman", "rm", "--force", "--time=0", container)


def test_a_daemon_that_starts_anew_takes_its_clients_along(
    server: StorageHost, environment: RunningEnvironment
) -> None:
    assert set(start_environment(environment, OPTIONS, ignore_event).steps.values()) == {"unchanged"}
    before = {name: started_at(server, name_of(environment, name)) for name in ("mps", "a", "b")}
    server.tool("podman", "kill", "--signal=KILL", name_of(environment, "mps"))
    steps = start_environment(environment, OPTIONS, ignore_event).steps
    assert set(steps.values()) == {"replaced"}
    replace_service(environment, "a", OPTIONS, ignore_event)
    after = {name: started_at(server, name_of(environment, name)) for name in before}
    assert all(before[name] != after[name] for name in before)
    assert after["mps"] < after["b"] < after["a"]
    assert server.tool("podman", "logs", name_of(environment, "a")) == "SERVER 1000\n"


def test_a_daemon_that_does_not_answer_leaves_clients_served_by_the_one_before(
    server: StorageHost, environment: RunningEnvironment
) -> None:
    names = [one.container.name for one in environment.services]
    before = server.tool("podman", "inspect", "--format", "{{.Id}}", *names)
    daemon = environment.get("mps")
    silent = replace(daemon, container=replace(daemon.container, entrypoint=("sleep",), command=("60",)))
    services = tuple(silent if one.name == "mps" else one for one in environment.services)
    asked = replace(OPTIONS, patience=1.0)
    with pytest.raises(BuildError, match="mps is not healthy after 1 s"):
        start_environment(replace(environment, services=services), asked, ignore_event)
    assert server.tool("podman", "inspect", "--format", "{{.Id}}", *names) == before
    assert server.tool("podman", "logs", name_of(environment, "b")).splitlines()[-1] == "SERVER 1000"
    log = log_of(server, environment)
    assert log[log.index("Start") :] == ["Start", "Starting new server for user 1000"]


def test_the_end_is_that_of_clients_first_and_leaves_no_volume(
    server: StorageHost, environment: RunningEnvironment
) -> None:
    ended: list[Event] = []
    stop_environment(environment, ended.append)
    assert [event.step for event in ended if isinstance(event, StepFinished)] == ["stop b", "stop a", "stop mps"]
    assert server.tool("podman", "volume", "ls", "--quiet") == ""
