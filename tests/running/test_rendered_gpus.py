"""GPUs in every format: each says them in the words that its reader acts upon, and what it cannot say, in a comment."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from buildkit.build.gpu_grants import plan_gpus
from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.target import Target
from buildkit.errors import BuildError
from buildkit.gpu.assumed import assume_devices
from buildkit.gpu.eligibility import WantedGpus
from buildkit.running.commands import render_command, render_commands
from buildkit.running.compose import render_compose, render_compose_environment
from buildkit.running.devcontainer import render_devcontainer
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import run_argv
from buildkit.running.gpu_nodes import gpu_limits, node_affinity
from buildkit.running.gpu_notes import GpuFormat
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.quadlet import render_quadlet, render_quadlet_environment
from tests.running.test_environment import made

ONE, TWO = (f"nvidia.com/gpu=GPU-0000000{n}-0000-4000-8000-000000000000" for n in "12")
SILENT = ("--gpus", "AddDevice=-", "count:", "driver: nvidia", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
"""What some reader ignores without a word, or another mechanism reads."""
FULL = GpuRequest(count=2, memory="16g", capability="8.6", driver=">=570")


def with_gpus(
    request: GpuRequest = FULL,
    devices: tuple[str, ...] = (ONE, TWO),
    whole: RunningEnvironment | None = None,
    **more: Any,
) -> RunningEnvironment:
    """The production environment, whose `app` gets devices."""
    whole = whole or made("production")
    services = tuple(
        replace(one, container=replace(one.container, gpu=request, devices=devices, **more))
        if one.name == "app"
        else one
        for one in whole.services
    )
    return replace(whole, services=services)


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def texts(environment: RunningEnvironment) -> dict[str, str]:
    alone = replace(environment.get("app").container, networks=())
    return {
        "print": render_commands(environment),
        "print alone": render_command(alone),
        "compose": render_compose_environment(environment),
        "compose alone": render_compose(alone),
        "docker": render_compose_environment(environment, GpuFormat.DOCKER),
        "docker alone": render_compose(alone, GpuFormat.DOCKER),
        "quadlet": "".join(text for _, text in render_quadlet_environment(environment)),
        "quadlet alone": "".join(text for _, text in render_quadlet(alone)),
        "play": render_kubernetes(environment, GpuFormat.PLAY),
        "kubernetes": render_kubernetes(environment),
        "devcontainer": render_devcontainer(environment, "app", Target(python="3.13", glibc="2.41", arch="x86_64")),
    }


def test_no_format_without_a_request_says_anything_of_gpus() -> None:
    for form, text in texts(made("production")).items():
        assert "gpu" not in text.lower(), form


def test_every_format_but_a_clusters_names_both_devices() -> None:
    for form, text in texts(with_gpus()).items():
        assert all(device in text for device in (ONE, TWO)) is (form != "kubernetes"), form
        assert not any(word in text for word in SILENT), form
        if form != "devcontainer":
            assert "# x-production-app: " in text, form


def test_command_has_an_option_for_each_device_and_nothing_runs_without() -> None:
    argv = run_argv(with_gpus().get("app").container, "--detach")
    assert [word for word in argv if word.startswith("--device=")] == [f"--device={ONE}", f"--device={TWO}"]
    assert not any("label=disable" in word for word in argv), "SELinux stays on"
    with pytest.raises(BuildError, match="x-production-app was given no GPU, and asks for some"):
        run_argv(with_gpus(devices=()).get("app").container, "--detach")


def test_podman_compose_reads_the_devices_of_its_file(tmp_path: Path) -> None:
    redis = with_gpus().get("redis").container
    alone = replace(redis, networks=(), ports=(), mounts=(), secrets=(), gpu=FULL, devices=(ONE, TWO))
    files = {"podman": render_compose(alone), "docker": render_compose(alone, GpuFormat.DOCKER)}
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    tool = Path(sys.executable).with_name("check-jsonschema")
    argv = (tool, "--builtin-schema", "vendor.compose-spec", *tmp_path.glob("*.yaml"))
    checked = subprocess.run(argv, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert dry_run(tmp_path / "podman.yaml") == [ONE, TWO]
    assert dry_run(tmp_path / "docker.yaml") == [], "so the file for docker compose says that it is not for it"
    assert "# GPUs: podman-compose ignores them here" in files["docker"]


def dry_run(file: Path) -> list[str]:
    """The devices that podman-compose passes to podman."""
    argv = (sys.executable, "-m", "podman_compose", "--verbose", "--dry-run", "--file", file, "up", "--detach")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, env=env, cwd=file.parent, capture_output=True, text=True, timeout=60)
    words = shlex.split(
        next(line for line in (done.stdout + done.stderr).splitlines() if "--name=x-production-redis" in line)
    )
    return [word for before, word in pairwise(words) if before == "--device"]


def test_docker_compose_asks_its_engine_for_cdi_devices() -> None:
    app = load(render_compose_environment(with_gpus(), GpuFormat.DOCKER))["services"]["app"]
    assert "devices" not in app
    assert app["deploy"] == {
        "resources": {
            "reservations": {"devices": [{"driver": "cdi", "device_ids": [ONE, TWO], "capabilities": ["gpu"]}]}
        }
    }


def test_unit_has_a_line_for_each_device() -> None:
    unit = dict(render_quadlet_environment(with_gpus()))["x-production-app.container"]
    assert [line for line in unit.splitlines() if "AddDevice" in line] == [f"AddDevice={ONE}", f"AddDevice={TWO}"]
    assert "compose" not in unit  # a unit is no compose file
    assert "compose" not in render_commands(with_gpus())
    assert "nor free memory 16g, compute capability 8.6, driver >=570" in unit


def pod(environment: RunningEnvironment, form: GpuFormat = GpuFormat.KUBERNETES) -> dict[str, Any]:
    objects = YAML(typ="safe", pure=True).load_all(render_kubernetes(environment, form))
    (spec,) = (
        one["spec"]["template"]["spec"]
        for one in objects
        if one["metadata"]["name"] == "x-production-app" and one["kind"] == "Deployment"
    )
    return spec


def test_pod_asks_for_a_number_and_for_nodes_that_will_do() -> None:
    spec = pod(with_gpus())
    assert spec["containers"][0]["resources"]["limits"] == {"memory": "2Gi", "cpu": "1.5", "nvidia.com/gpu": 2}
    (choice,) = spec["affinity"].values()
    terms = choice["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    common = [
        {"key": "nvidia.com/gpu.sharing-strategy", "operator": "NotIn", "values": ["mps", "time-slicing"]},
        {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["16383"]},
    ]
    driver = {"key": "nvidia.com/cuda.driver.major", "operator": "Gt", "values": ["569"]}
    major, minor = (f"nvidia.com/gpu.compute.{part}" for part in ("major", "minor"))
    assert [term["matchExpressions"] for term in terms] == [
        [*common, {"key": major, "operator": "Gt", "values": ["8"]}, driver],
        [
            *common,
            {"key": major, "operator": "Gt", "values": ["7"]},
            {"key": major, "operator": "Lt", "values": ["9"]},
            {"key": minor, "operator": "Gt", "values": ["5"]},
            driver,
        ],
    ]


def test_objects_are_those_of_kubernetes() -> None:
    for environment in (with_gpus(), with_gpus(GpuRequest(share="time-slice"), (ONE,))):
        for one in YAML(typ="safe", pure=True).load_all(render_kubernetes(environment)):
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("capability", "driver", "labels", "will_do"),
    [
        ("8.6", "", {"gpu.compute.major": 8, "gpu.compute.minor": 6}, True),
        ("8.6", "", {"gpu.compute.major": 8, "gpu.compute.minor": 5}, False),
        ("8.6", "", {"gpu.compute.major": 9, "gpu.compute.minor": 0}, True),
        ("8.6", "", {"gpu.compute.major": 7, "gpu.compute.minor": 9}, False),
        ("", ">=570.86.15", {"cuda.driver.major": 570, "cuda.driver.minor": 86, "cuda.driver.rev": 15}, True),
        ("", ">=570.86.15", {"cuda.driver.major": 570, "cuda.driver.minor": 86, "cuda.driver.rev": 14}, False),
        ("", ">=570.86.15", {"cuda.driver.major": 570, "cuda.driver.minor": 124, "cuda.driver.rev": 6}, True),
        ("", ">=570,<600", {"cuda.driver.major": 599, "cuda.driver.minor": 1, "cuda.driver.rev": 0}, True),
        ("", ">=570,<600", {"cuda.driver.major": 600, "cuda.driver.minor": 0, "cuda.driver.rev": 0}, False),
        ("", "<570.86", {"cuda.driver.major": 570, "cuda.driver.minor": 85, "cuda.driver.rev": 9}, True),
        ("", "<570.86", {"cuda.driver.major": 570, "cuda.driver.minor": 86, "cuda.driver.rev": 0}, False),
        ("", "<570.86", {"cuda.driver.major": 535, "cuda.driver.minor": 99, "cuda.driver.rev": 0}, True),
    ],
)
def test_terms_for_nodes_are_the_range_in_single_numbers(
    capability: str, driver: str, labels: dict[str, int], will_do: bool
) -> None:
    found = node_affinity(GpuRequest(capability=capability, driver=driver))["nodeAffinity"]
    terms = found["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    def matches(expression: dict[str, Any]) -> bool:
        number, values = labels.get(expression["key"].removeprefix("nvidia.com/"), 0), expression["values"]
        compare = {"Gt": number > int(values[0]), "Lt": number < int(values[0])} if values[0].isdecimal() else {}
        return compare.get(expression["operator"], expression["operator"] == "NotIn")

    assert any(all(map(matches, term["matchExpressions"])) for term in terms) is will_do


def test_resources_of_a_cluster_follow_sharing_and_mig_profiles() -> None:
    def limits(request: GpuRequest, devices: tuple[str, ...] = (ONE,), **more: Any) -> dict[str, int]:
        return gpu_limits(with_gpus(request, devices, **more).get("app").container)

    assert limits(GpuRequest(share="mps")) == {"nvidia.com/gpu.shared": 1}
    assert limits(GpuRequest(share="time-slice")) == {"nvidia.com/gpu.shared": 1}
    assert limits(GpuRequest(), mig=("3g.71gb",)) == {"nvidia.com/mig-3g.71gb": 1}
    assert limits(GpuRequest(devices=("0", "1")), (ONE, TWO)) == {"nvidia.com/gpu": 2}
    assert limits(GpuRequest(count=0), (ONE, TWO)) == {"nvidia.com/gpu": 2}
    affinity = pod(with_gpus(GpuRequest(share="time-slice"), (ONE,)))["affinity"]
    assert {"key": "nvidia.com/gpu.sharing-strategy", "operator": "In", "values": ["time-slicing"]} in (
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0][
            "matchExpressions"
        ]
    )


def test_play_has_names_of_cdi_and_no_object_that_podman_ignores() -> None:
    spec = pod(with_gpus(), GpuFormat.PLAY)
    assert spec["containers"][0]["resources"]["limits"] == {"memory": "2Gi", "cpu": "1.5", ONE: 1, TWO: 1}
    assert "affinity" not in spec
    text = render_kubernetes(with_gpus(), GpuFormat.PLAY)
    assert {one["kind"] for one in YAML(typ="safe", pure=True).load_all(text)} == {
        "Deployment", "Job", "PersistentVolumeClaim",
    }  # fmt: skip
    assert "# podman knows no NetworkPolicy: podman kube play --network x-production FILE" in text


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (GpuRequest(), True),
        (GpuRequest(memory="16g"), {"memory": "16gb"}),
        (GpuRequest(memory="16g", optional=True), "optional"),
    ],
)
def test_editor_says_what_the_host_must_have(request_: GpuRequest, wanted: object) -> None:
    text = texts(with_gpus(request_, (ONE,)))["devcontainer"]
    assert json.loads(text)["hostRequirements"] == {"gpu": wanted}
    assert f"--device={ONE}" in json.loads(text)["runArgs"]


@pytest.mark.parametrize(
    ("request_", "form", "note"),
    [
        (GpuRequest(optional=True), "compose", "does not start without its GPUs, although they are optional"),
        (GpuRequest(devices=("0",)), "kubernetes", "gets 1 of any, a pod cannot name its GPUs (0)"),
        (GpuRequest(count=0), "kubernetes", "a pod cannot ask for all GPUs of a node"),
        (GpuRequest(memory="8g"), "kubernetes", "by the memory that GPUs have (8g), not by what is free"),
        (GpuRequest(share="mps"), "kubernetes", "shares with renameByDefault = true"),
        (GpuRequest(), "play", "podman 5.4 and later read these limits; older ones run it on the CPU"),
        (GpuRequest(), "docker", "Docker must have CDI enabled"),
    ],
)
def test_what_a_format_cannot_say_is_a_comment(request_: GpuRequest, form: str, note: str) -> None:
    lines = texts(with_gpus(request_, (ONE,)))[form].splitlines()
    assert any(line.startswith("# ") and note in line for line in lines)


def test_devices_by_index_are_said_to_be_a_guess() -> None:
    assert "may be another GPU there" in texts(with_gpus(GpuRequest(), ("nvidia.com/gpu=0",)))["quadlet"]
    assert "may be another GPU there" not in texts(with_gpus(GpuRequest(), (ONE,)))["quadlet"]


def test_file_for_another_host_gives_no_index_to_two(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = {
        "a": GpuRequest(count=2), "b": GpuRequest(devices=("1",)), "c": GpuRequest(share="mps"),
        "d": GpuRequest(share="mps", count=2), "e": GpuRequest(), "f": GpuRequest(count=0),
    }  # fmt: skip
    found = assume_devices([WantedGpus(container=name, request=one) for name, one in requests.items()])
    assert {name: [device.partition("=")[2] for device in devices] for name, devices in found.items()} == {
        "a": ["0", "2"], "b": ["1"], "c": ["3"], "d": ["3", "4"], "e": ["5"], "f": ["all"],
    }  # fmt: skip


def test_file_for_this_host_has_its_uuids_whatever_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "gpu"))
    from gpuhosts import BUSY, gpu, host, uuid

    full = host(gpu(0, free=0, processes=BUSY), gpu(1))
    monkeypatch.setattr("buildkit.build.gpu_grants.find_gpu_host", lambda: full)
    asking = [replace(made().get(name).container, gpu=GpuRequest(memory="8g")) for name in ("app", "redis")]
    assert [one.devices for one in plan_gpus(asking)] == [(f"nvidia.com/gpu={uuid(n)}",) for n in (0, 1)]
    third = replace(asking[0], name="third")
    assert [one.devices for one in plan_gpus([*asking, third])] == [(f"nvidia.com/gpu={n}",) for n in range(3)]
