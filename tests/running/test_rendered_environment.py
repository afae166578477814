"""Every format of an environment says what the commands say: each flag, each name, each order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from buildkit.running.commands import render_commands
from buildkit.running.compose import render_compose_environment
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import run_argv
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.quadlet import render_quadlet_environment
from tests.running.test_environment import made

ENVIRONMENTS = ("production", "closed")


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def argv_of(environment: RunningEnvironment, name: str) -> set[str]:
    return set(run_argv(environment.get(name).container, "--detach"))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_compose_environment_is_valid_and_has_the_flags_of_the_commands(name: str, tmp_path: Path) -> None:
    environment = made(name)
    file = tmp_path / "compose.yaml"
    file.write_text(render_compose_environment(environment))
    tool = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run((tool, "--builtin-schema", "vendor.compose-spec", file), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    whole = load(file.read_text())
    for service, written in whole["services"].items():
        argv = argv_of(environment, service)
        container = environment.get(service).container
        expected = {word for word in argv if word.startswith(("--tmpfs=", "--volume=", "--publish=", "--add-host="))}
        found = {f"--tmpfs={one}" for one in written["tmpfs"]}
        found |= {f"--volume={one}" for one in written.get("volumes", ())}
        found |= {f"--publish={one}" for one in written.get("ports", ())}
        found |= {f"--add-host={one}" for one in written.get("extra_hosts", ())}
        assert expected <= found
        assert {folder.split(":")[1] for folder in found - expected} <= {"ro,nosuid,nodev,noexec,size=4k"}
        assert ("--read-only" in argv) is written["read_only"]
        assert {f"--cap-add={one}" for one in written.get("cap_add", ())} == {w for w in argv if "cap-add" in w}
        privileges = "--security-opt=no-new-privileges" in argv
        assert ("no-new-privileges:true" in written["security_opt"]) is privileges
        first = written["networks"][environment.network.name]
        assert first == {"ipv4_address": container.address, "mac_address": container.mac}
        assert set(written["networks"]) == {network.name for network in container.networks}
        assert {one["target"] for one in written.get("secrets", ())} == {one.name for one in container.secrets}
    assert whole["networks"][environment.network.name]["driver_opts"] == {"no_default_route": "1"}


def test_compose_waits_as_the_services_say() -> None:
    services = load(render_compose_environment(made()))["services"]
    assert services["app"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "redis": {"condition": "service_healthy"},
    }
    assert services["migrate"]["depends_on"] == {"redis": {"condition": "service_started"}}
    assert (services["migrate"]["restart"], services["app"]["restart"]) == ("no", "on-failure:5")


def test_units_have_the_flags_of_the_commands_and_their_order() -> None:
    environment = made()
    units = dict(render_quadlet_environment(environment))
    assert set(units) == {
        "x-production-app.container", "x-production-migrate.container", "x-production-redis.container",
        "x-production.network", "x-production-outgoing.network", "x-production-data.volume",
    }  # fmt: skip
    app = units["x-production-app.container"].splitlines()
    assert app[:5] == [
        "[Unit]",
        "Requires=x-production-migrate.service",
        "After=x-production-migrate.service",
        "Requires=x-production-redis.service",
        "After=x-production-redis.service",
    ]
    container = environment.get("app").container
    assert {
        f"Network=x-production.network:ip={container.address},mac={container.mac}",
        "Network=x-production-outgoing.network",
        "Environment=SPEECH_CACHE=redis://redis:6379",
        "Secret=x-production-token,target=token,mode=0444",
        "Notify=healthy",
        "ReadOnly=true",
        "NoNewPrivileges=true",
        "DropCapability=all",
    } <= set(app)
    (options,) = (line for line in app if line.startswith("PodmanArgs="))
    assert {"--memory=2g", "--memory-swap=2g", "--cpus=1.5", "--pids-limit=256"} < set(options[11:].split())
    assert (
        "Volume=x-production-data.volume:/var/lib/data:rw,nosuid,nodev,noexec" in units["x-production-redis.container"]
    )
    job = units["x-production-migrate.container"]
    assert "Wants=x-production-redis.service" in job
    assert "Type=oneshot\nRemainAfterExit=yes" in job
    assert "Restart=" not in job
    assert units["x-production.network"].splitlines()[-2:] == [
        f"Subnet={environment.network.subnet}",
        "Options=no_default_route=1",
    ]
    other = dict(render_quadlet_environment(made("closed")))["x-closed-other.container"]
    assert "AddCapability=CHOWN" in other
    assert "ReadOnly=" not in other
    assert "NoNewPrivileges=" not in other


def test_kubernetes_objects_keep_every_protection_that_they_can_say() -> None:
    text = render_kubernetes(made())
    assert text.startswith("# kubectl create secret generic x-production-redis --from-file=token=FILE\n")
    objects = list(YAML(typ="safe", pure=True).load_all(text))
    kinds = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert kinds == [
        ("PersistentVolumeClaim", "x-production-data"),
        ("Deployment", "x-production-redis"), ("Service", "redis"), ("NetworkPolicy", "x-production-redis"),
        ("Job", "x-production-migrate"),
        ("Deployment", "x-production-app"), ("Service", "app"),
    ]  # fmt: skip
    pod = objects[1]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 999, "runAsGroup": 999, "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "Localhost", "localhostProfile": "x-production.seccomp.json"},
    }  # fmt: skip
    assert container["resources"] == {"limits": {"memory": "1Gi"}}
    assert container["readinessProbe"]["exec"] == {"command": ["redis-cli", "ping"]}
    assert {one["mountPath"] for one in container["volumeMounts"]} == {
        "/tmp", "/dev/shm", "/var/lib/data", "/run/secrets",
    }  # fmt: skip
    app = objects[5]["spec"]["template"]["spec"]["containers"][0]
    assert app["ports"] == [{"containerPort": 8000, "protocol": "TCP", "hostPort": 8000, "hostIP": "127.0.0.1"}]
    assert app["resources"] == {"limits": {"memory": "2Gi", "cpu": "1.5"}}
    other = next(iter(YAML(typ="safe", pure=True).load_all(render_kubernetes(made("closed")))))
    security = other["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (False, True)


def test_printed_commands_are_those_that_start_it() -> None:
    environment = made()
    text = render_commands(environment)
    lines = text.replace(" \\\n    ", " ").splitlines()
    subnet = f"--subnet {environment.network.subnet}"
    assert lines[0] == f"podman network create --disable-dns {subnet} --opt no_default_route=1 x-production"
    assert 'printf %s "$TOKEN" | podman secret create x-production-token -' in lines
    wait = lines.index("until podman healthcheck run x-production-redis; do sleep 1; done")
    assert lines[wait - 1] == 'test "$(podman wait x-production-migrate)" = 0'
    subprocess.run(("sh", "-n"), input=text, text=True, check=True)
    assert [line.split()[3] for line in lines if line.startswith("podman run")] == [
        "--name=x-production-redis", "--name=x-production-migrate", "--name=x-production-app",
    ]  # fmt: skip
