"""One replica on each of two made-up GPUs behind a real HAProxy, in real containers."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gpuhosts import uuid
from test_gpu_containers import Host, namespace, spec

from tests import nvmlstub
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.rollout.conftest import IMAGE
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
REPLICA = ("/usr/sbin/haproxy", "-W", "-db", "-f", "/etc/replica.cfg")
ANSWER = b"""
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
  timeout tarpit 50ms
frontend replica
  bind :8000
  http-request return status 200 if { path /readyz }
  http-request tarpit status 200 content-type text/plain string "${MADE_UP_0-}${MADE_UP_1-}"
"""
TEXT = f"""
[services.app]
stage = "server"
command = {json.dumps(REPLICA)}
ports = ["0:8000"]
replicas = "per-gpu"
proxy = {{ probe = "/readyz" }}
gpu = {{ count = 2 }}
[environments.t]
services = ["app"]
"""
PROGRAM = f"""
import ctypes, json, sys
ctypes.CDLL(sys.argv[1])
from pathlib import Path
from buildkit.declare.services_file import parse_services
from buildkit.events import ignore_event
from buildkit.running.environment import make_environment
from buildkit.services.replicas import choose_replicas, forget_replicas
from buildkit.services.start import StartOptions, start_environment
from buildkit.services.stop import stop_environment
from buildkit.store.ledger_key import key_file
from tests.rollout.conftest import describe
from tests.services.addresses import address_of

services = parse_services({TEXT!r}, stages=("proxy", "server"))
made = make_environment(services, "t", describe, project=sys.argv[2], state=str(key_file().parent))
environment = choose_replicas(made)

def up():
    found = start_environment(environment, StartOptions(folder=Path("/tmp"), patience=20.0), ignore_event)
    return {{name: str(step) for name, step in found.steps.items()}}

def down():
    stop_environment(environment, ignore_event)
    forget_replicas(environment)
"""


class ReplicaHost(Host):
    """A host of two GPUs."""

    def __init__(self, storage: StorageHost, holder: int) -> None:
        super().__init__(storage, holder)
        self.project = f"r{secrets.token_hex(3)}"  # networks of root are shared by all storages

    def asked(self, last: str) -> Any:
        description = self.storage.folder / "gpus"
        description.write_text(nvmlstub.host(2, *(f"{number}.uuid {uuid(number)}" for number in range(2))))
        text = f"{PROGRAM}\nprint(json.dumps({last}))"
        process = self.start_program(text, description, str(nvmlstub.library()), self.project)
        out, errors = process.communicate(timeout=120)
        assert out, errors
        return json.loads(out.splitlines()[-1])

    def full(self, name: str) -> str:
        return f"{self.project}-t-{name}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaHost]:
    if os.geteuid() != 0 or shutil.which("podman") is None or shutil.which("haproxy") is None:
        pytest.skip("needs root, whose /etc/cdi is covered in a mount namespace, podman and haproxy")
    storage = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    storage.prepare(stores=False)
    storage.env["XDG_STATE_HOME"] = str(storage.folder / "state")
    tar = tmp_path_factory.mktemp("root") / "root.tar"
    programs = (Path("/usr/sbin/haproxy"), Path("/usr/bin/socat"))
    tar.write_bytes(make_root_tar(programs, {"etc/replica.cfg": ANSWER}))
    try:
        storage.tool("podman", "import", "--quiet", str(tar), IMAGE)
        with namespace(tmp_path_factory.mktemp("etc"), spec(2)) as holder:
            machine = ReplicaHost(storage, holder)
            try:
                yield machine
            finally:
                machine.asked("down()")
    finally:
        storage.remove()


class Clients:
    """Clients that ask without a pause, until the block ends: which GPU answered, and what was no answer."""

    def __init__(self, port: int, count: int = 4) -> None:
        self.gpus: Counter[str] = Counter()
        self.failed: list[str] = []
        self._port, self._end = port, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait(self, count: int) -> None:
        goal = self.gpus.total() + count
        wait_until(lambda: self.gpus.total() >= goal, lambda: self.failed)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._end.is_set():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                body = answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
                continue
            if answer.status == 200:
                self.gpus[body] += 1
            else:
                self.failed.append(f"{answer.status} {body}")
        connection.close()


def test_each_replica_has_a_gpu_of_its_own_and_one_that_is_killed_loses_no_request(host: ReplicaHost) -> None:
    assert set(host.asked("up()").values()) == {"started"}
    devices = {name: host.tool("podman", "exec", host.full(name), "ls", "/dev") for name in ("app-1", "app-2", "app")}
    found = {name: sorted(set(text.split()) & {"nvidia0", "nvidia1"}) for name, text in devices.items()}
    assert sorted((*found["app-1"], *found["app-2"])) == ["nvidia0", "nvidia1"]
    assert [len(found[name]) for name in ("app-1", "app-2", "app")] == [1, 1, 0]
    port = int(host.asked('address_of(environment, "app")').rpartition(":")[2])
    with Clients(port) as clients:
        clients.wait(60)
        share = {gpu: count / clients.gpus.total() for gpu, count in clients.gpus.items()}
        assert set(share) == {uuid(0), uuid(1)}
        assert min(share.values()) > 0.3, share
        host.tool("podman", "kill", "--signal=KILL", host.full("app-1"))
        clients.wait(60)
        left = Counter(clients.gpus)
        clients.wait(20)
        answering = clients.gpus - left
    assert clients.failed == [], "all were GETs, which the proxy sends again"
    assert len(answering) == 1
    assert host.asked("up()") == {"app-1": "replaced", "app-2": "unchanged", "app": "unchanged"}
    with Clients(port) as clients:
        wait_until(lambda: len(clients.gpus) == 2, lambda: "the proxy does not see it again")
    assert clients.failed == []
