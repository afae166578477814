"""`podman kube play` of Debian 13 reads what is rendered for it, and ignores what is rendered for a cluster."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpuhosts import uuid

from buildkit.build.gpu_environment import assumed_environment
from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Running
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import make_container
from buildkit.running.gpu_notes import GpuFormat
from buildkit.running.kubernetes import render_kubernetes
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.debian13 import DEBIAN_13, ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.services.conftest import IMAGE

pytestmark = [pytest.mark.tools, *DEBIAN_13]
PAUSE = "localhost/tiny/pause:latest"
TEXT = f"""
[services.app]
stage = "server"
command = ["sleep", "60"]
[services.app.gpu]
devices = ["{uuid(1)}"]
[environments.t]
services = ["app"]
"""


def environment() -> RunningEnvironment:
    running = Running(memory="64m", pids=20, stop_seconds=1, system_calls="default")
    container = make_container(IMAGE, "x", Config(user="1000:1000"), running)
    whole = make_environment(parse_services(TEXT, stages=("server",)), "t", lambda _: container, project="play")
    return assumed_environment(whole)


@pytest.fixture(scope="module")
def debian() -> Iterator[StorageHost]:
    """podman 5.4, an image, one that its pods pause with, and a specification of a GPU that is /dev/zero."""
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    host.prepare(stores=False)
    given = Path(host.env["CONTAINERS_CONF"]).read_text() if "CONTAINERS_CONF" in host.env else ""
    conf = host.folder / "pods.conf"
    conf.write_text(f'{given}\n[engine]\ninfra_image = "{PAUSE}"\n')
    host.env["CONTAINERS_CONF"] = str(conf)
    tar = host.folder / "root.tar"
    tar.write_bytes(make_root_tar((Path("/usr/bin/sleep"),)))
    edits = {"deviceNodes": [{"path": "/dev/nvidia1", "hostPath": "/dev/zero"}]}
    device = {"name": uuid(1), "containerEdits": edits}
    spec = json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [device]})
    try:
        with inside(ensure_root(), host) as found:
            killed = ("--change", "STOPSIGNAL SIGKILL")
            found.tool("podman", "import", "--quiet", str(tar), IMAGE)
            found.tool("podman", "import", "--quiet", "--change", 'CMD ["sleep", "60"]', *killed, str(tar), PAUSE)
            found.tool("sh", "-c", "mkdir -p /run/cdi && cat > /run/cdi/nvidia.json", stdin=spec)
            yield found
    finally:
        host.remove()


def play(debian: StorageHost, text: str, name: str) -> str:
    """The devices of the service's container, as a shell in it lists them."""
    file = debian.folder / "pods.yaml"
    file.write_text(text)
    try:
        debian.tool("podman", "kube", "play", "--network=none", str(file))
        (container,) = (one for one in debian.tool("podman", "ps", "--format", "{{.Names}}").split() if name in one)
        return debian.tool("podman", "exec", container, "bash", "-c", "echo /dev/nvidia*")
    finally:
        debian.tool("podman", "pod", "rm", "--all", "--force", "--time=0")


def test_play_gives_the_device_and_what_a_cluster_reads_gives_none(debian: StorageHost) -> None:
    assert play(debian, render_kubernetes(environment(), GpuFormat.PLAY), "pod-app") == "/dev/nvidia1\n"
    assert play(debian, render_kubernetes(environment()), "pod-app") == "/dev/nvidia*\n"


def test_play_refuses_a_device_that_is_not_there(debian: StorageHost) -> None:
    text = render_kubernetes(environment(), GpuFormat.PLAY).replace(uuid(1), uuid(2))
    (debian.folder / "pods.yaml").write_text(text)
    said = debian.tool("podman", "kube", "play", "--network=none", str(debian.folder / "pods.yaml"), code=125)
    debian.tool("podman", "pod", "rm", "--all", "--force", "--time=0")
    assert f"unresolvable CDI devices nvidia.com/gpu={uuid(2)}" in said
