"""Environments with real podman: names, order, secrets, volumes, what is replaced, and what a failure leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.events import Event, Note, ignore_event
from buildkit.running.environment import RunningEnvironment
from buildkit.services.start import StartOptions, replace_service, start_environment
from buildkit.services.state import find_states
from buildkit.services.stop import stop_environment
from buildkit.tools.process import run
from tests.imagestore.hosts import StorageHost
from tests.services.addresses import address_of
from tests.services.conftest import ASK, SERVE, MakeEnvironment
from tests.services.fake_podman import FakePodman, Recorder

pytestmark = pytest.mark.tools
TEXT = f"""
[services.app]
stage = "server"
command = {json.dumps((*SERVE, "/run/secrets/token"))}
depends-on = {{ db = "healthy", migrate = "completed" }}
ports = ["0:8000"]
secrets = ["token", "made"]
[services.db]
stage = "server"
command = {json.dumps(SERVE)}
volumes = {{ data = "/data" }}
[services.migrate]
stage = "server"
command = ["bash", "-c", "echo done > /data/migrated"]
volumes = {{ data = "/data" }}
depends-on = {{ db = "healthy" }}
[services.migrate.healthcheck]
test = ["true"]
[secrets.token]
env = "TINY_TOKEN"
[secrets.made]
generate = true
[environments.t]
services = ["app", "db", "migrate"]
"""
FOLDER = Path(__file__).parent
OPTIONS = StartOptions(folder=FOLDER, patience=20.0)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    """What the first start asks podman for."""
    return Recorder(run)


@pytest.fixture(scope="module")
def environment(make: MakeEnvironment, recorder: Recorder) -> Iterator[RunningEnvironment]:
    """The environment, running."""
    environment = make(TEXT)
    patch = pytest.MonkeyPatch()
    patch.setenv("TINY_TOKEN", "first")
    try:
        with pytest.MonkeyPatch.context() as recording:
            recorder.install(recording)
            started = start_environment(environment, OPTIONS, ignore_event)
        assert set(started.steps.values()) == {"started"}
        yield environment
    finally:
        patch.undo()
        stop_environment(environment, ignore_event, volumes=True)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_TOKEN", "first")


def ids(host: StorageHost, environment: RunningEnvironment) -> dict[str, str]:
    found = json.loads(host.tool("podman", "ps", "--all", "--format", "json"))
    by_name = {one["Names"][0]: one["Id"] for one in found}
    names = {service.name: by_name.pop(service.container.name) for service in environment.services}
    assert not by_name, "nothing else is left"
    return names


def answer(environment: RunningEnvironment) -> str:
    address, _, port = address_of(environment, "app").rpartition(":")
    with socket.create_connection((address, int(port)), 60) as connection:
        return connection.recv(100).decode()


def test_services_reach_each_other_by_name_with_their_secrets_and_volumes(
    server: StorageHost, environment: RunningEnvironment
) -> None:
    app, db = (environment.get(name).container.name for name in ("app", "db"))
    assert server.tool("podman", "exec", app, "bash", "-c", ASK.format("db")) == "db"
    assert server.tool("podman", "exec", db, "bash", "-c", ASK.format("app")) == "first"
    assert answer(environment) == "first"
    assert server.tool("podman", "exec", app, "ls", "-ln", "/run/secrets").count("-r-------- 1 1000 1000") == 2
    assert server.tool("podman", "exec", db, "cat", "/data/migrated") == "done\n"
    assert "Read-only" in server.tool("podman", "exec", db, "touch", "/opt/x", code=1)
    states = {state.name: state.state for state in find_states(environment)}
    assert states == {"app": "healthy", "db": "healthy", "migrate": "completed"}


def test_podman_in_memory_is_asked_for_the_same_and_has_the_same_then(
    server: StorageHost, environment: RunningEnvironment, recorder: Recorder, token: None
) -> None:
    fake = FakePodman("-migrate")
    with pytest.MonkeyPatch.context() as patch:
        fake.recorder.install(patch)
        start_environment(environment, OPTIONS, ignore_event)
    assert set(fake.recorder.verbs) == set(recorder.verbs)
    assert fake.containers.keys() == set(server.tool("podman", "ps", "--all", "--format", "{{.Names}}").split())
    assert fake.running == set(server.tool("podman", "ps", "--format", "{{.Names}}").split())
    assert fake.volumes == set(server.tool("podman", "volume", "ls", "--quiet").split())
    assert fake.secrets.keys() == set(server.tool("podman", "secret", "ls", "--format", "{{.Name}}").split())
    assert fake.networks.keys() < set(server.tool("podman", "network", "ls", "--format", "{{.Name}}").split())


def test_starting_again_changes_nothing_and_a_changed_service_alone_is_replaced(
    server: StorageHost, environment: RunningEnvironment, make: MakeEnvironment, token: None
) -> None:
    before = ids(server, environment)
    made = server.tool("podman", "exec", environment.get("app").container.name, "cat", "/run/secrets/made")
    assert set(start_environment(environment, OPTIONS, ignore_event).steps.values()) == {"unchanged"}
    assert ids(server, environment) == before
    changed = make(TEXT.replace('ports = ["0:8000"]', 'ports = ["0:8000"]\nenv = { X = "1" }'))
    assert start_environment(changed, OPTIONS, ignore_event).steps["app"] == "replaced"
    after = ids(server, changed)
    assert {name for name in before if before[name] != after[name]} == {"app"}
    assert server.tool("podman", "exec", changed.get("app").container.name, "cat", "/run/secrets/made") == made
    replace_service(changed, "db", OPTIONS, ignore_event)
    assert {name for name, one in ids(server, changed).items() if one != after[name]} == {"db"}
    app = changed.get("app").container.name
    assert server.tool("podman", "exec", app, "bash", "-c", ASK.format("db")) == "db"  # at its address


def test_a_changed_secret_replaces_what_reads_it(
    server: StorageHost, environment: RunningEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_TOKEN", "second")
    assert start_environment(environment, OPTIONS, ignore_event).steps["app"] == "replaced"
    assert answer(environment) == "second"
    assert "second" not in server.tool("podman", "inspect", environment.get("app").container.name)
    monkeypatch.setenv("TINY_TOKEN", "first")
    start_environment(environment, OPTIONS, ignore_event)


def test_a_change_that_does_not_start_leaves_what_ran(
    server: StorageHost, environment: RunningEnvironment, make: MakeEnvironment, token: None
) -> None:
    before = ids(server, environment)
    broken = make(TEXT.replace('"/run/secrets/token"]', '"/run/secrets/token"]\nenv = { PERL5OPT = "-Mwrong" }'))
    with pytest.raises(BuildError, match="app ended with exit code 2 before it was healthy") as raised:
        start_environment(broken, OPTIONS, ignore_event)
    assert "Can't locate wrong.pm" in raised.value.output
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(BuildError, match=rf"app: port 127.0.0.1:{port} of this host is in use by another"):
            start_environment(make(TEXT.replace("0:8000", f"{port}:8000")), OPTIONS, ignore_event)
    never = ('secrets = ["token", "made"]', 'healthcheck = { test = ["bash", "-c", "echo no luck; exit 1"] }')
    with pytest.raises(BuildError, match=r"app is not healthy after 2 s: `bash -c .* fails: no luck"):
        start_environment(make(TEXT.replace(never[0], "\n".join(never))), replace(OPTIONS, patience=2.0), ignore_event)
    assert ids(server, environment) == before
    assert answer(environment) == "first"


def test_an_interrupt_leaves_nothing_and_removes_nothing_of_others(
    server: StorageHost, make: MakeEnvironment, environment: RunningEnvironment, tmp_path: Path
) -> None:
    text = TEXT.replace('"first"', "").replace("[environments.t]", "[environments.u]")
    (tmp_path / "services.toml").write_text(text.replace('["true"]', '["sleep", "9"]'))
    argv = (sys.executable, "-m", "tests.services.interrupted", str(tmp_path), environment.project)
    before = ids(server, environment)
    env = {**os.environ, "TINY_TOKEN": "x"}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, cwd=FOLDER.parents[1]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"started db\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    assert ids(server, environment) == before
    assert f"{environment.project}-u" not in server.tool("podman", "network", "ls", "--format", "{{.Name}}").split()
    assert f"{environment.project}-u-token" not in server.tool("podman", "secret", "ls", "--format", "{{.Name}}")
    server.tool("podman", "volume", "rm", f"{environment.project}-u-data")
    server.tool("podman", "secret", "rm", f"{environment.project}-u-made")


def test_another_checkout_is_told_where_it_runs(environment: RunningEnvironment, tmp_path: Path, token: None) -> None:
    with pytest.raises(BuildError, match="runs already, started in") as raised:
        start_environment(environment, StartOptions(folder=tmp_path), ignore_event)
    assert raised.value.hint.startswith("end it there first: cd ")


def test_the_end_keeps_volumes_and_generated_secrets_until_they_are_removed(
    server: StorageHost, make: MakeEnvironment, environment: RunningEnvironment, token: None
) -> None:
    assert sorted(stop_environment(environment, ignore_event)) == ["app", "db", "migrate"]
    prefix = f"{environment.project}-t"
    assert server.tool("podman", "ps", "--all", "--quiet") == ""
    assert prefix not in server.tool("podman", "network", "ls", "--format", "{{.Name}}").split()
    assert server.tool("podman", "secret", "ls", "--format", "{{.Name}}").split() == [f"{prefix}-made"]
    assert server.tool("podman", "volume", "ls", "--quiet").split() == [f"{prefix}-data"]
    assert {state.state for state in find_states(environment)} == {"absent"}
    stop_environment(environment, ignore_event, volumes=True)
    assert server.tool("podman", "volume", "ls", "--quiet") == ""
    assert server.tool("podman", "secret", "ls", "--quiet") == ""


def test_a_healthy_service_that_others_cannot_reach_is_told(make: MakeEnvironment) -> None:
    inside = [word.replace("8000, 0)", "8000, 2130706433)") for word in SERVE]  # 127.0.0.1
    app = f'[services.app]\nstage = "server"\nports = ["0:8000"]\ncommand = {json.dumps(inside)}\n'
    environment = make(f'{app}[environments.t]\nservices = ["app"]\n')
    said: list[Event] = []
    try:
        start_environment(environment, OPTIONS, said.append)
        assert find_states(environment, awaited=True)[0].state == "healthy"
    finally:
        stop_environment(environment, ignore_event)
    warnings = [event.text for event in said if isinstance(event, Note) and event.warning]
    assert any("app: others cannot reach port 8000, though it is healthy" in text for text in warnings)
