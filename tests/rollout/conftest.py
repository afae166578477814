"""podman with storage of its own, and an image that is both: a proxy, and replicas that answer after 100 ms."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container
from buildkit.store.ledger_key import key_file
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost

MakeRollout = Callable[[str], RunningEnvironment]
IMAGE = "localhost/tiny/haproxy:latest"
REPLICA = ("/usr/sbin/haproxy", "-W", "-db", "-f", "/etc/replica.cfg")
_PROXY = ("/usr/sbin/haproxy", "-W", "-db", "-f", "/etc/haproxy/run")
_ANSWER = b"""
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
  timeout tarpit 100ms
frontend replica
  bind :8000
  http-request return status 200 if { path /readyz }
  http-request tarpit status 500 if { rand(100) lt "${ERRORS}" }
  http-request tarpit status 200 content-type text/plain string "${VERSION}"
"""
_CONNECT = "exec 3<>/dev/tcp/127.0.0.1/8000"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageHost]:
    """Storage with the image; the tools that this process starts use it, too."""
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    host.prepare(stores=False)
    folder = tmp_path_factory.mktemp("root")
    programs = tuple(Path(path) for path in ("/usr/sbin/haproxy", "/usr/bin/socat"))
    (folder / "root.tar").write_bytes(make_root_tar(programs, {"etc/replica.cfg": _ANSWER}))
    patch = pytest.MonkeyPatch()
    try:
        host.tool("podman", "import", "--quiet", str(folder / "root.tar"), IMAGE)
        for name, value in host.env.items():
            patch.setenv(name, value)
        patch.setenv("BUILDKIT_LEDGER_KEY", str(folder / "state/ledger.key"))
        yield host
    finally:
        patch.undo()
        host.remove()


@pytest.fixture
def make(host: StorageHost) -> MakeRollout:
    """Make the environment `t` of a text; the project is unique, so state and root's networks are the test's own."""
    project = f"t{secrets.token_hex(4)}"

    def make(text: str) -> RunningEnvironment:
        services = parse_services(text, stages=("proxy", "server"))
        return make_environment(services, "t", describe, project=project, state=str(key_file().parent))

    return make


def describe(stage: str) -> ContainerSpec:
    """The container of the proxy, or of a replica."""
    socket = ("socat", "-u", "OPEN:/dev/null", "UNIX-CONNECT:/tmp/admin.sock")
    test = socket if stage == "proxy" else ("bash", "-c", _CONNECT)
    health = Healthcheck(test=test, interval=1, timeout=5)
    config = Config(user="1000:1000", ports=("8000",), healthcheck=health)
    running = Running(memory="64m", pids=40, stop_seconds=2, tmpfs=(("/tmp", "1m"),))
    container = make_container(IMAGE, f"tiny-{stage}", config, running)
    return replace(container, options=(f"--entrypoint={json.dumps(_PROXY)}",)) if stage == "proxy" else container
