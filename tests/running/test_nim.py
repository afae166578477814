"""An inference container in every format: cache, shared memory, key, patience, network; and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buildkit.declare.services_file import parse_services
from buildkit.errors import DefinitionError
from buildkit.running.commands import render_commands
from buildkit.running.compose import render_compose_environment
from buildkit.running.devcontainer import run_options
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import run_argv
from buildkit.running.gpu_notes import GpuFormat
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.quadlet import render_quadlet_environment
from buildkit.services.nim_host import find_shortages
from tests.running.test_environment import DIGEST, made
from tests.running.test_rendered_environment import load

IMAGE = f"nvcr.io/nim/meta/llama-3.1-8b-instruct@{DIGEST}"
SERVICE = {"image": f'"{IMAGE}"', "memory": '"64g"', "gpu": '"none"', "nim": '{ cache = "models", disk = "60g" }'}


def text(**changes: str) -> str:
    lines = "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in (SERVICE | changes).items() if value)
    secret = '[secrets.ngc]\nfile = "ngc.key"\n'
    return f"[services.llm]\n{lines}{secret}[environments.t]\nservices = ['llm']\n"


def nim(keys: str = 'key = "ngc"', **changes: str) -> RunningEnvironment:
    return made("t", text(nim=f'{{ cache = "models", disk = "60g", {keys} }}', **changes))


def argv(environment: RunningEnvironment) -> tuple[str, ...]:
    return run_argv(environment.get("llm").container, "--detach")


def test_the_container_has_what_an_inference_container_needs() -> None:
    flags = argv(nim())
    assert {
        "--user=1000:1000",
        "--volume=x-t-models:/opt/nim/.cache:rw,nosuid,nodev,noexec",
        "--tmpfs=/dev/shm:rw,nosuid,nodev,noexec,size=16g,mode=1777",
        "--health-start-period=1800s",
        "--publish=127.0.0.1:8000:8000",
        "--network=x-t-outgoing",
        "--secret=x-t-ngc,type=env,target=NGC_API_KEY",
    } <= set(flags)
    assert [one for one in flags if one.startswith(("--env", "--security-opt=seccomp"))] == [
        "--env=NIM_CACHE_PATH=/opt/nim/.cache"
    ]
    assert any("/v1/health/ready" in one for one in flags)
    assert "podman volume create --opt o=uid=1000,gid=1000 x-t-models" in render_commands(nim())


def test_an_air_gapped_one_has_no_route_and_no_key() -> None:
    environment = nim('air-gapped = true, model = "/opt/nim/.cache/llama"')
    assert environment.outgoing is None
    assert environment.secrets == ()
    flags = argv(environment)
    assert {"--env=HF_HUB_OFFLINE=1", "--env=NIM_MODEL_PATH=/opt/nim/.cache/llama"} <= set(flags)
    assert not [one for one in flags if one.startswith("--secret") or "outgoing" in one]


def test_what_the_service_says_itself_counts() -> None:
    own = 'shared-memory = "2g", start-minutes = 5, key = "ngc", key-variable = "HF_TOKEN"'
    changes = {"ports": '["9000:8000"]', "pids": "64", "user": '"7:8"', "tmpfs": '{ "/var/x" = "1m" }'}
    container = (
        nim(own, healthcheck='{ test = ["ready"] }', env='{ NIM_CACHE_PATH = "/y" }', **changes).get("llm").container
    )
    flags = set(run_argv(container, "--detach"))
    assert {"--health-start-period=300s", "--health-cmd=CMD ready", "--user=7:8", "--pids-limit=64"} <= flags
    assert {"--env=NIM_CACHE_PATH=/y", "--secret=x-t-ngc,type=env,target=HF_TOKEN"} <= flags
    assert [folder for folder, _ in container.folders] == ["/dev/shm", "/var/x"]


def test_compose_gets_the_key_from_podman_or_from_the_shell_and_says_so(tmp_path: Path) -> None:
    podman, docker = (render_compose_environment(nim(), form) for form in (GpuFormat.PODMAN, GpuFormat.DOCKER))
    one = load(podman)
    assert one["services"]["llm"]["secrets"] == [{"source": "x-t-ngc", "type": "env", "target": "NGC_API_KEY"}]
    assert one["secrets"] == {"x-t-ngc": {"external": True}}  # as a file it would be mounted
    assert one["volumes"]["x-t-models"]["driver_opts"] == {"o": "uid=1000,gid=1000"}
    assert "which docker compose refuses: --docker-compose" in podman
    assert "`docker inspect` shows it" in docker
    other = load(docker)
    assert other["services"]["llm"]["environment"]["NGC_API_KEY"] is None
    assert not {"secrets"} & (other.keys() | other["services"]["llm"].keys())
    file = tmp_path / "compose.yaml"
    file.write_text(docker)
    tool = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run((tool, "--builtin-schema", "vendor.compose-spec", file), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_units_wait_as_long_as_the_model_may_load() -> None:
    units = dict(render_quadlet_environment(nim()))
    assert "PodmanArgs=--opt o=uid=1000,gid=1000\n" in units["x-t-models.volume"]
    unit = units["x-t-llm.container"]
    assert "TimeoutStartSec=1860\n" in unit
    assert "Secret=x-t-ngc,type=env,target=NGC_API_KEY\n" in unit
    assert "Tmpfs=/run/secrets" not in unit


def test_pods_have_a_start_probe_a_claim_and_a_reference_to_the_key() -> None:
    whole = render_kubernetes(nim())
    objects = {one["kind"]: one for one in loaded_all(whole)}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 1800
    assert container["livenessProbe"]["exec"] == container["startupProbe"]["exec"]
    assert "initialDelaySeconds" not in container["readinessProbe"]
    assert objects["Deployment"]["spec"]["progressDeadlineSeconds"] == 2100
    reference = {"name": "x-t-llm", "key": "ngc"}
    assert {"name": "NGC_API_KEY", "valueFrom": {"secretKeyRef": reference}} in container["env"]
    assert "secrets" not in {volume["name"] for volume in pod["volumes"]}
    assert objects["PersistentVolumeClaim"]["spec"]["resources"] == {"requests": {"storage": "60Gi"}}
    assert pod["securityContext"] == {"fsGroup": 1000}
    assert "kubectl create secret generic x-t-llm --from-file=ngc=FILE" in whole


def loaded_all(whole: str) -> list[Any]:
    return [load(part) for part in whole.split("\n---\n")[1:]]


def test_an_editor_gets_the_key_as_a_secret_of_podman() -> None:
    arguments = set(run_options(nim().get("llm").container))
    assert "--secret=x-t-ngc,type=env,target=NGC_API_KEY" in arguments
    assert not [one for one in arguments if "/run/secrets" in one]


@pytest.mark.parametrize(
    ("changes", "key", "what"),
    [
        ({"image": f'"{IMAGE.partition("@")[0]}:2.0.8"'}, "services.llm.image", "pinned by digest"),
        ({"image": "", "stage": '"redis"'}, "services.llm.nim", "is for an `image`"),
        ({"user": '"root"'}, "services.llm.user", "must not run as root"),
        ({"user": '"nim"'}, "services.llm.user", "must be numbers"),
        ({"gpu": ""}, "services.llm.gpu", "is missing"),
        ({"memory": ""}, "services.llm.memory", "is missing"),
        ({"memory": '"16g"'}, "services.llm.memory", "more than the shared memory"),
        ({"tmpfs": '{ "/dev/shm" = "1g" }'}, "services.llm.tmpfs", "has another size in `nim`"),
        ({"ports": '["9000"]'}, "services.llm.ports", "lacks 8000"),
        ({"outgoing": "false"}, "services.llm.outgoing", "keeps it from downloading"),
        ({"volumes": '{ x = "/opt/nim/.cache" }'}, "services.llm.volumes", "is the volume at"),
        ({"nim": "{}"}, "services.llm.nim.cache", "is missing"),
        ({"nim": '{ cache = "m", key = "nothing" }'}, "services.llm.nim.key", "there is no secret"),
        ({"nim": '{ cache = "m", key = "ngc", air-gapped = true }'}, "services.llm.nim.key", "is of no use"),
        ({"nim": '{ cache = "m", air-gapped = true }', "outgoing": "true"}, "services.llm.outgoing", "contradicts"),
        ({"replicas": "2"}, "services.llm.nim", "would write one volume at once"),
    ],
)
def test_contradictions_are_named(changes: dict[str, str], key: str, what: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        parse_services(text(**changes), stages=("redis", "proxy"))
    assert [one for one in raised.value.problems if one.key == key and what in one.what], raised.value.problems


def test_a_host_with_too_little_memory_or_disk_is_refused_unless_the_cache_is_there() -> None:
    services = nim().services
    gib = 1 << 30
    found = list(find_shortages(services, memory=32 * gib, free=20 * gib, kept=()))
    assert found == [
        "llm may use 64g of memory, and this host has 32.0 GiB",
        "x-t-models needs 60.0 GiB of disk, and 20.0 GiB are free for volumes",
    ]
    assert list(find_shortages(services, memory=64 * gib, free=20 * gib, kept=("x-t-models",))) == []
