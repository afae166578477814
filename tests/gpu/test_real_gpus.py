"""The whole on a machine with NVIDIA GPUs: what is granted is what a container sees, and no other has it."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.stage import Config, Running
from buildkit.errors import BuildError
from buildkit.gpu.host_devices import GpuHost
from buildkit.inspection.start_container import start_container
from buildkit.running.flags import ContainerSpec, make_container
from buildkit.tools import podman
from buildkit.tools.gpu_host import find_gpu_host, find_held
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.services.conftest import IMAGE

pytestmark = [pytest.mark.tools, pytest.mark.gpu]
NAME = f"gpu{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuHost]:
    """This host's GPUs, and an image in a storage of its own."""
    host = find_gpu_host()
    if not [device for device in host.devices() if device.name and not device.problem]:
        pytest.skip(f"needs a GPU that podman hands over by CDI: {host.gpus.problem or sorted(host.names)}")
    storage = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    storage.prepare(stores=False)
    tar = tmp_path_factory.mktemp("root") / "root.tar"
    tar.write_bytes(make_root_tar((Path("/usr/bin/sleep"),)))
    patch = pytest.MonkeyPatch()
    try:
        storage.tool("podman", "import", "--quiet", str(tar), IMAGE)
        for name, value in storage.env.items():
            patch.setenv(name, value)
        yield host
    finally:
        storage.tool("podman", "rm", "--force", "--all", "--time=0")
        patch.undo()
        storage.remove()


def container(number: int, **request: object) -> ContainerSpec:
    config = Config(user=f"{os.getuid() or 1000}")
    made = make_container(IMAGE, f"{NAME}-{number}", config, Running(memory="256m", stop_seconds=1))
    return replace(made, command=("sleep", "600"), gpu=GpuRequest(**request))


def seen(name: str) -> set[str]:
    """The UUIDs that the driver lists in a container."""
    listed = podman.execute(name, ("nvidia-smi", "-L"))
    assert listed.code == 0, listed.text + listed.stderr.decode()
    return set(re.findall(r"UUID: ((?:GPU|MIG)-[0-9a-f-]+)", listed.text))


def test_container_sees_the_granted_gpu_alone_and_a_pair_shares_none(gpus: GpuHost) -> None:
    assert start_container(container(0), detach=True) == 0
    (first,) = {one.uuid for one in find_held(gpus) if one.container == f"{NAME}-0"}
    assert first in seen(f"{NAME}-0")
    if len(gpus.devices()) == 1:
        with pytest.raises(BuildError, match=f"the container {NAME}-0 has it"):
            start_container(container(1), detach=True)
        return
    assert start_container(container(1), detach=True) == 0
    (second,) = {one.uuid for one in find_held(gpus) if one.container == f"{NAME}-1"}
    assert second != first
    assert not seen(f"{NAME}-0") & seen(f"{NAME}-1")


def test_more_memory_than_there_is_starts_nothing(gpus: GpuHost) -> None:
    with pytest.raises(BuildError, match="9000g of free memory wanted"):
        start_container(container(9, memory="9000g"), detach=True)
    assert not [one for one in find_held(gpus) if one.container == f"{NAME}-9"]
