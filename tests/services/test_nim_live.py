"""An inference container with real podman: `up` waits for its model, the next start needs neither key nor network."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit.events import ignore_event
from buildkit.running.environment import RunningEnvironment
from buildkit.services.start import StartOptions, start_environment
from buildkit.services.stop import stop_environment
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.hosts import StorageHost
from tests.services.addresses import address_of
from tests.services.conftest import MakeEnvironment

pytestmark = pytest.mark.tools
NAME = "localhost/tiny/nim"
PYTHON = Path("/usr/bin/python3")
SERVER = Path(__file__).with_name("nim_server.py")
_LIST = (
    "import http.server, json, os, signal, sys, threading, time, pathlib\n"  # of the server, then of its check
    "import encodings.idna, encodings.latin_1, traceback, urllib.request\n"
    "print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
)
# less patience than the model needs: what counts is the start period
OPTIONS = StartOptions(folder=SERVER.parent, patience=0.1)
KEY = "nvapi-hidden"


@pytest.fixture(scope="module")
def image(server: StorageHost, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stand-in by its digest; root owns the folder of its cache."""
    listed = subprocess.run((PYTHON, "-I", "-c", _LIST), capture_output=True, text=True, check=True).stdout
    modules = [Path(line) for line in listed.splitlines() if line.startswith("/usr/lib/python")]
    files = {"opt/nim/.cache/README": b"models come here", "opt/nim/serve.py": SERVER.read_bytes()}
    tar = tmp_path_factory.mktemp("nim") / "root.tar"
    tar.write_bytes(make_root_tar((PYTHON, *modules), files))
    server.tool("podman", "import", "--quiet", str(tar), f"{NAME}:latest")
    digest = server.tool("podman", "image", "inspect", "--format", "{{.Digest}}", f"{NAME}:latest").strip()
    return f"{NAME}@{digest}"


def text(image: str, nim: str) -> str:
    return f"""
[services.llm]
image = "{image}"
command = ["python3", "/opt/nim/serve.py"]
ports = ["0:8000"]
memory = "128m"
stop-seconds = 5
gpu = "none"
nim = {{ cache = "models", shared-memory = "16m", start-minutes = 1, {nim} }}
[secrets.ngc]
env = "TINY_NGC"
[environments.t]
services = ["llm"]
"""


@pytest.fixture
def environment(make: MakeEnvironment, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEnvironment]:
    monkeypatch.setenv("TINY_NGC", KEY)
    environment = make(text(image, 'key = "ngc"'))
    try:
        yield environment
    finally:
        stop_environment(environment, ignore_event, volumes=True)


def ask(environment: RunningEnvironment) -> Any:
    port = address_of(environment, "llm").rpartition(":")[2]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60) as answer:
        return json.load(answer)


def test_up_waits_for_the_model_whose_cache_outlives_it_for_a_start_without_key_and_network(
    server: StorageHost, make: MakeEnvironment, image: str, environment: RunningEnvironment
) -> None:
    name = environment.get("llm").container.name
    start_environment(environment, OPTIONS, ignore_event)
    first = ask(environment)
    assert first["user"] == 1000
    log = server.tool("podman", "logs", name)
    assert 0 <= log.find("/v1/health/ready 503") < log.find("/v1/health/ready 200")
    assert server.tool("podman", "exec", name, "env").count(f"NGC_API_KEY={KEY}") == 1
    (found,) = json.loads(server.tool("podman", "inspect", name))
    assert KEY not in json.dumps(found["Config"]["CreateCommand"])  # its variables have it, in podman 4.3
    stop_environment(environment, ignore_event)
    assert server.tool("podman", "volume", "ls", "--quiet").split() == [f"{environment.network.name}-models"]

    offline = make(text(image, "air-gapped = true"))
    start_environment(offline, OPTIONS, ignore_event)
    assert ask(offline) == first
    assert "NGC_API_KEY" not in server.tool("podman", "inspect", name)
    assert [network.name for network in offline.networks] == [offline.network.name]
