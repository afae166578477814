"""The control daemon beside services that share GPUs, in every format."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from buildkit.errors import DefinitionError
from buildkit.running.commands import render_commands
from buildkit.running.compose import render_compose_environment
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import ContainerSpec, run_argv
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.mps import find_strangers, with_mps
from buildkit.running.quadlet import render_quadlet_environment
from tests.running.test_environment import made
from tests.running.test_rendered_environment import load


def load_all(text: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(text))


TEXT = """
[services.one]
stage = "redis"
[services.one.gpu]
share = "mps"
devices = ["0", "1"]
mps = { threads = 25, memory = "4g" }
[services.two]
stage = "redis"
env = { CUDA_MPS_PIPE_DIRECTORY = "/elsewhere" }
gpu = { share = "mps" }
depends-on = { beside = "started" }
[services.beside]
stage = "job"
gpu = { share = "time-slice" }
[services.mps]
stage = "job"
[services.named]
stage = "runtime"
gpu = { share = "mps" }
[environments.production]
services = ["one", "two", "beside"]
[environments.taken]
services = ["one", "mps"]
[environments.unknown]
services = ["one", "named"]
[environments.without]
services = ["beside"]
"""
ENDING = ",mode=0755,uid=999,gid=999,nosuid,nodev,noexec"


@pytest.fixture(scope="module")
def environment() -> RunningEnvironment:
    return with_mps(granted("production"))


def granted(name: str) -> RunningEnvironment:
    """The environment, each service with the GPUs that it asks for."""
    plain = made(name, TEXT)
    return replace(plain, services=tuple(replace(one, container=give(one.container)) for one in plain.services))


def give(container: ContainerSpec) -> ContainerSpec:
    gpu = container.gpu
    if gpu is None:
        return container
    words = gpu.devices or tuple(map(str, range(gpu.count)))
    labels = (("org.xoe.buildkit.gpus", " ".join(f"GPU-{word}" for word in words)),)
    return replace(container, devices=tuple(f"nvidia.com/gpu=GPU-{word}" for word in words), labels=labels)


def test_nothing_changes_without_clients_and_nothing_twice(environment: RunningEnvironment) -> None:
    without = made("without", TEXT)
    assert with_mps(without) is without
    assert with_mps(environment) == environment


def test_daemon_is_closed_and_started_first(environment: RunningEnvironment) -> None:
    assert [service.name for service in environment.services] == ["mps", "beside", "one", "two"]
    argv = run_argv(environment.get("mps").container, "--detach")
    devices = {f"--device=nvidia.com/gpu=GPU-{number}" for number in (0, 1)}
    assert devices | {"--label=org.xoe.buildkit.gpus=GPU-0 GPU-1", "--label=org.xoe.buildkit.gpu-share=mps"} < set(argv)
    assert {"--user=999:999", "--read-only", "--cap-drop=all", "--network=none", "--stop-timeout=1"} < set(argv)
    assert '--entrypoint=["nvidia-cuda-mps-control"]' in argv
    assert argv[-2:] == ("localhost/x/redis:latest", "-f")
    assert not any(word.startswith("--tmpfs") for word in argv)
    two = run_argv(environment.get("two").container, "--detach")
    assert "--env=CUDA_MPS_PIPE_DIRECTORY=/run/mps/pipe" in two
    assert "--env=CUDA_MPS_PIPE_DIRECTORY=/elsewhere" not in two
    assert environment.get("beside").container.mounts == ()


def test_clients_that_get_no_gpu_leave_the_daemon_and_the_last_takes_it_along(environment: RunningEnvironment) -> None:
    def without(*names: str) -> RunningEnvironment:
        return with_mps(replace(environment, services=tuple(
            replace(one, container=replace(one.container, gpu=None, devices=())) if one.name in names else one
            for one in environment.services
        )))  # fmt: skip

    plain = granted("production").get("one")
    left = without("one")
    assert left.get("one").container.env == plain.container.env
    assert (left.get("one").container.mounts, left.get("one").depends_on, left.get("one").bound_to) == ((), (), ())
    assert left.get("mps").container.devices == ("nvidia.com/gpu=GPU-0",)
    assert [service.name for service in without("one", "two").services] == ["beside", "one", "two"]


def test_health_is_asked_with_the_images_python_or_its_shell(environment: RunningEnvironment) -> None:
    plain = made("production", TEXT)
    services = tuple(
        replace(one, container=replace(one.container, python="/opt/venv/bin/python")) for one in plain.services
    )
    shell = environment.get("mps").container.health
    python = with_mps(replace(plain, services=services)).get("mps").container.health
    assert shell is not None
    assert python is not None
    assert (shell.test[:2], python.test[:2]) == (("sh", "-c"), ("/opt/venv/bin/python", "-c"))


@pytest.mark.parametrize(("answer", "healthy"), [("echo 100.0", True), ("echo Cannot find", False), ("false", False)])
def test_health_check_believes_an_answer_alone(
    answer: str, healthy: bool, environment: RunningEnvironment, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-cuda-mps-control"
    program.write_text(f'#!/bin/sh\ntest "$(cat)" = get_default_active_thread_percentage && {answer}\n')
    program.chmod(0o755)
    plain = made("production", TEXT)
    services = tuple(replace(one, container=replace(one.container, python=sys.executable)) for one in plain.services)
    for one in (environment, with_mps(replace(plain, services=services))):
        health = one.get("mps").container.health
        assert health is not None
        done = subprocess.run(health.test, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, stderr=subprocess.DEVNULL)
        assert (done.returncode == 0) is healthy


def test_users_and_names_that_cannot_be_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"services.toml: `services.mps`: is the name of the daemon"):
        with_mps(made("taken", TEXT))
    with pytest.raises(DefinitionError, match="named: the number of its user is not known") as raised:
        with_mps(made("unknown", TEXT))
    assert raised.value.hint == 'user = "UID:GID" of services.named'


def test_one_number_is_two_users_of_the_host_where_one_container_keeps_the_callers(
    environment: RunningEnvironment,
) -> None:
    uids = ((0, 1000, 1), (1, 100000, 65536))
    assert find_strangers(environment, uids) == ()
    options = ("--userns=keep-id:uid=999,gid=999",)
    kept = tuple(
        replace(one, container=replace(one.container, options=options)) if one.name == "two" else one
        for one in environment.services
    )
    (found,) = find_strangers(replace(environment, services=kept), uids)
    assert found.what.endswith("(two: 1000; one, mps: 100998)")
    assert find_strangers(replace(environment, services=kept), ()) == ()


def test_compose_says_volumes_in_memory_order_and_that_clients_start_anew(
    environment: RunningEnvironment, tmp_path: Path
) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(render_compose_environment(environment))
    tool = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run((tool, "--builtin-schema", "vendor.compose-spec", file), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    whole = load(file.read_text())
    assert whole["volumes"]["x-production-mps-pipe"]["driver_opts"] == {
        "type": "tmpfs", "device": "tmpfs", "o": f"nr_blocks=4096{ENDING}",
    }  # fmt: skip
    devices = {f"nvidia.com/gpu=GPU-{number}" for number in (0, 1)}
    assert devices == set(whole["services"]["mps"]["devices"])
    daemon, two = whole["services"]["mps"], whole["services"]["two"]
    assert (daemon["entrypoint"], daemon["command"]) == (["nvidia-cuda-mps-control"], ["-f"])
    assert daemon["network_mode"] == "none"
    assert two["depends_on"] == {
        "mps": {"condition": "service_healthy", "restart": True}, "beside": {"condition": "service_started"},
    }  # fmt: skip
    assert {volume.split(":")[1] for volume in two["volumes"]} == {"/run/mps/pipe", "/run/mps/log", "/dev/shm"}


def test_units_start_clients_after_a_healthy_daemon_and_end_them_with_it(environment: RunningEnvironment) -> None:
    units = dict(render_quadlet_environment(environment))
    two = units["x-production-two.container"].splitlines()
    assert {"Requires=x-production-mps.service", "After=x-production-mps.service"} < set(two)
    assert "BindsTo=x-production-mps.service" in two
    daemon = units["x-production-mps.container"].splitlines()
    assert {"Notify=healthy", 'Entrypoint=["nvidia-cuda-mps-control"]', "Exec=-f", "Network=none"} < set(daemon)
    assert {f"AddDevice=nvidia.com/gpu=GPU-{number}" for number in (0, 1)} < set(daemon)
    assert "Volume=x-production-mps-shm.volume:/dev/shm:rw,nosuid,nodev,noexec" in daemon
    assert units["x-production-mps-pipe.volume"].splitlines() == [
        "[Volume]", "VolumeName=x-production-mps-pipe", "Type=tmpfs", "Device=tmpfs",
        f"Options=nr_blocks=4096{ENDING}",
    ]  # fmt: skip


def test_cluster_has_a_daemon_of_its_own_and_pods_their_limits() -> None:
    plain = granted("production")
    objects = load_all(render_kubernetes(plain))
    pods = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"}
    assert set(pods) == {"x-production-one", "x-production-two", "x-production-beside"}
    (one,) = pods["x-production-one"]["containers"]
    assert {row["name"]: row["value"] for row in one["env"]} == {
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=4G,1=4G",
    }  # fmt: skip
    assert one["resources"]["limits"]["nvidia.com/gpu.shared"] == 2
    notes = gpu_notes((service.container for service in plain.services), GpuFormat.KUBERNETES)
    assert any("x-production-one: the daemon of MPS is that of the device plugin" in note for note in notes)


def test_commands_make_volumes_in_memory_and_wait_for_the_daemon(environment: RunningEnvironment) -> None:
    text = render_commands(environment)
    options = json.dumps(f"o=nr_blocks=4096{ENDING}")[1:-1]
    assert f"podman volume create --opt type=tmpfs --opt device=tmpfs --opt {options} x-production-mps-pipe\n" in text
    wait = "until podman healthcheck run x-production-mps; do sleep 1; done\n"
    assert text.index("--name=x-production-mps ") < text.index(wait) < text.index("--name=x-production-two ")
