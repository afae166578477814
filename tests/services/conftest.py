"""podman with storage of its own in this process, and a small image whose services are one line of perl."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost

MakeEnvironment = Callable[[str], RunningEnvironment]
IMAGE = "localhost/tiny/server:latest"
# answers each connection with the first line of a file; its socket is packed by hand, as no module is there
_SERVE = (
    "$SIG{TERM} = sub { exit }; socket S, 2, 1, 0; setsockopt S, 1, 2, 1; bind S, pack('SnNx8', 2, 8000, 0) or die $!;"
    " listen S, 5; while (accept C, S) { open F, $ARGV[0] || '/etc/hostname'; print C scalar <F>; close C }"
)
SERVE = ("perl", "-e", _SERVE)
ASK = "exec 3<>/dev/tcp/{}/8000 && cat <&3"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageHost]:
    """Storage with the image; the tools that this process starts use it, too."""
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    host.prepare(stores=False)
    tar = tmp_path_factory.mktemp("root") / "root.tar"
    tar.write_bytes(make_root_tar((Path("/usr/bin/perl"),)))
    patch = pytest.MonkeyPatch()
    try:
        host.tool("podman", "import", "--quiet", str(tar), IMAGE)
        for name, value in host.env.items():
            patch.setenv(name, value)
        yield host
    finally:
        patch.undo()
        host.remove()


@pytest.fixture(scope="module")
def make(server: StorageHost) -> MakeEnvironment:
    """Make the environment `t` of a text; networks of root are shared by all storages, so the project is unique."""
    project = f"t{secrets.token_hex(4)}"

    def make(text: str) -> RunningEnvironment:
        return make_environment(parse_services(text, stages=("server",)), "t", describe, project=project)

    return make


def describe(stage: str) -> ContainerSpec:
    """The container of the image."""
    health = Healthcheck(test=("bash", "-c", ASK.format("127.0.0.1")), interval=1, timeout=5)
    config = Config(user="1000:1000", ports=("8000",), healthcheck=health)
    return make_container(IMAGE, f"tiny-{stage}", config, Running(memory="64m", pids=20, stop_seconds=2))
