"""podman-compose and Quadlet's generator take what is rendered, and do what the commands do."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.events import ignore_event
from buildkit.running.commands import service_network_argv
from buildkit.running.compose import render_compose_environment
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import run_argv
from buildkit.running.mps import with_mps
from buildkit.running.quadlet import render_quadlet_environment
from buildkit.running.seccomp import render_seccomp
from buildkit.services.stop import stop_environment
from tests.imagestore.debian13 import ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.running.test_models_mount import environment as mounting_environment
from tests.running.test_mps_service import granted
from tests.running.test_rendered_gpus import with_gpus
from tests.services.conftest import ASK, SERVE, MakeEnvironment

pytestmark = pytest.mark.tools
TEXT = f"""
[services.app]
stage = "server"
command = {json.dumps((*SERVE, "/run/secrets/token"))}
depends-on = {{ db = "healthy" }}
ports = ["0:8000"]
secrets = ["token"]
[services.db]
stage = "server"
command = {json.dumps(SERVE)}
volumes = {{ data = "/data" }}
[secrets.token]
env = "TINY_TOKEN"
[environments.t]
services = ["app", "db"]
"""


@pytest.fixture
def composed(server: StorageHost, make: MakeEnvironment, tmp_path: Path) -> Iterator[RunningEnvironment]:
    """The environment, started by podman-compose."""
    environment = make(TEXT)
    (tmp_path / "compose.yaml").write_text(render_compose_environment(environment))
    (tmp_path / f"{environment.network.name}.seccomp.json").write_text(render_seccomp())
    compose = (sys.executable, "-m", "podman_compose", "--file", str(tmp_path / "compose.yaml"))
    # older versions of podman refuse the option that closes it
    server.tool(*service_network_argv(environment.network, closes=False))
    server.tool("podman", "secret", "create", environment.secrets[0].name, "-", stdin="hidden\n")
    env = {**server.env, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        started = subprocess.run((*compose, "up", "--detach"), env=env, cwd=tmp_path, capture_output=True, text=True)
        assert started.returncode == 0, started.stdout + started.stderr
        yield environment
    finally:
        subprocess.run((*compose, "down", "--timeout=0", "--volumes"), env=env, cwd=tmp_path, capture_output=True)
        server.tool("podman", "secret", "rm", environment.secrets[0].name)
        stop_environment(environment, ignore_event)


def test_podman_compose_starts_services_with_names_secrets_and_limits(
    server: StorageHost, composed: RunningEnvironment
) -> None:
    app, db = (composed.get(name).container.name for name in ("app", "db"))
    assert server.tool("podman", "exec", app, "bash", "-c", ASK.format("db")) == "db"
    assert server.tool("podman", "exec", db, "bash", "-c", ASK.format("app")) == "hidden\n"
    assert "Read-only" in server.tool("podman", "exec", app, "touch", "/opt/x", code=1)
    assert "-r-------- 1 1000 1000" in server.tool("podman", "exec", app, "ls", "-ln", "/run/secrets")
    (found,) = json.loads(server.tool("podman", "inspect", app))
    assert found["EffectiveCaps"] in ([], None)
    assert found["HostConfig"]["Memory"] == 64 << 20
    assert found["HostConfig"]["PidsLimit"] == 20


@pytest.mark.network
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts another root")
def test_the_generator_of_debian_13_turns_units_into_the_same_commands() -> None:
    environment, sharing = with_gpus(whole=mounting_environment()), with_mps(granted("production"))
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    host.prepare(stores=False)
    generated = []
    try:
        with inside(ensure_root(), host) as debian:
            for number, one in enumerate((environment, sharing)):
                folder = host.folder / f"units{number}"
                folder.mkdir()
                for file, text in render_quadlet_environment(one):
                    (folder / file).write_text(text)
                debian.env["QUADLET_UNIT_DIRS"] = str(folder)
                generated.append(debian.tool("/usr/libexec/podman/quadlet", "-dryrun", "-no-kmsg-log"))
    finally:
        host.remove()
    made_units = generated[0]
    _check_starts(environment, made_units)
    _check_starts(sharing, generated[1])
    assert "--sdnotify healthy" in made_units.replace("=", " ")
    assert "Requires=x-production-redis.service" in made_units
    assert "BindsTo=x-production-mps.service" in generated[1]
    (volume,) = (one for one in generated[1].splitlines() if " volume create " in one and "x-production-mps-shm" in one)
    assert "--opt device=tmpfs --opt type=tmpfs --opt o=nr_blocks=16384,mode=1777,uid=999" in volume


def _check_starts(environment: RunningEnvironment, made_units: str) -> None:
    """Every service is started with the flags of its command."""
    starts = [line for line in made_units.splitlines() if line.startswith("ExecStart=") and " run " in line]
    assert len(starts) == len(environment.services)
    for service in environment.services:
        (line,) = (one for one in starts if f"--name={service.container.name} " in one.replace("--name ", "--name="))
        words = " ".join(shlex.split(line.removeprefix("ExecStart=").replace("%%", "%"))).replace("=", " ")
        words = words.replace("%E/containers/", "")
        wanted = [word.replace("=", " ") for word in run_argv(service.container, "--detach")[3:-1]]
        wanted = [word.replace("--volume ", "-v ") for word in wanted if word.startswith("--")]
        wanted = [word for word in wanted if not word.startswith("--label ")]  # by which `up` finds what it started
        assert [word for word in wanted if word not in words] == []
