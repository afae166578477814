import dataclasses
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from buildkit.doctor.containersconf import render_containers_conf
from buildkit.doctor.facts import ContainerHost

ORDINARY = ContainerHost(cgroups="v2", runtimes=("crun", "runc"), backend="netavark")


def conf(**changes: object) -> dict[str, object]:
    return tomllib.loads(render_containers_conf(dataclasses.replace(ORDINARY, **changes)))


def test_ordinary_host_needs_no_containers_conf() -> None:
    assert render_containers_conf(ORDINARY) == ""
    assert conf(cgroups="hybrid", runtimes=("runc",)) == {}, "podman finds the only runtime itself"


@pytest.mark.parametrize("cgroups", ["hybrid", "v1"])
def test_runc_is_chosen_where_crun_refuses(cgroups: str) -> None:
    assert conf(cgroups=cgroups) == {"engine": {"runtime": "runc"}}


def test_file_limit_is_set_if_it_cannot_be_raised() -> None:
    assert conf(nofile=20000, may_raise=False) == {"containers": {"default_ulimits": ["nofile=20000:20000"]}}
    assert conf(nofile=9, nproc=7, may_raise=False)["containers"] == {"default_ulimits": ["nofile=9:9", "nproc=7:7"]}
    assert conf(nofile=20000, may_raise=True) == {}
    assert conf(nofile=20000, may_raise=False, rootful=False) == {}


def test_network_backend_with_plugins_is_chosen() -> None:
    assert conf(backend="cni", has_cni=False) == {"network": {"network_backend": "netavark"}}
    assert conf(backend="netavark", has_netavark=False, has_cni=True) == {"network": {"network_backend": "cni"}}
    assert conf(backend="cni", has_cni=True) == {}


def test_all_settings_together_are_one_valid_file() -> None:
    settings = conf(cgroups="hybrid", nofile=9, may_raise=False, backend="cni")
    assert set(settings) == {"containers", "engine", "network"}


@pytest.mark.tools
def test_podman_runs_a_container_with_the_generated_file(tmp_path: Path) -> None:
    """The smallest image there can be: a static program of the host's, on podman's own network."""
    from tests.containers import container_environment

    env = {**os.environ, **container_environment(tmp_path)}
    root = tmp_path / "root"
    root.mkdir()
    (root / "ldconfig").write_bytes(Path("/sbin/ldconfig").read_bytes())
    (root / "ldconfig").chmod(0o755)
    pack = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True)
    name = f"localhost/containersconf:{os.getpid()}"
    subprocess.run(["podman", "import", "-", name], env=env, input=pack.stdout, capture_output=True, check=True)
    try:
        ran = subprocess.run(["podman", "run", "--rm", name, "/ldconfig", "--version"], env=env, capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()
        assert b"ldconfig" in ran.stdout
    finally:
        subprocess.run(["podman", "rmi", "--force", name], env=env, capture_output=True)
