"""Files of an environment in which fewer replicas run than may ever run."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.cli.environment_formats import FORMATS, print_environment
from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.declare.target import Target
from buildkit.errors import DefinitionError
from buildkit.events import Event, Note
from buildkit.running.devcontainer import render_devcontainer
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container
from buildkit.services.replicas import choose_replicas, write_proxy
from buildkit.services.rollout_files import find_proxies
from buildkit.store.ledger_key import key_file

TARGET = Target(python="3.13", glibc="2.41", arch="x86_64")
TEXT = """
[services.app]
stage = "runtime"
ports = ["8000"]
[services.app.scale]
min = 1
max = 3
target = { in-flight = 8 }
[environments.t]
services = ["app"]
"""


def describe(stage: str) -> ContainerSpec:
    config = Config(user="1000:1000", ports=("8000",), healthcheck=Healthcheck(test=("python", "check.py")))
    return make_container(f"localhost/x/{stage}:latest", f"x-{stage}", config, Running())


@pytest.fixture
def scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningEnvironment:
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(tmp_path / "ledger.key"))
    services = parse_services(TEXT, stages=("proxy", "runtime"))
    return choose_replicas(make_environment(services, "t", describe, project="x", state=str(key_file().parent)))


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_waits_for_no_replica_that_it_does_not_have(
    form: str, scaled: RunningEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {one.name for one in scaled.services} == {"app", "app-1"}
    print_environment(scaled, FORMATS[form])
    assert "app-2" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["print", "compose", "docker-compose", "quadlet"])
def test_whoever_declares_a_shadow_is_told_where_it_gets_nothing(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(tmp_path / "ledger.key"))
    rollout = '[services.app.rollout]\nsplit = { old = 100 }\nshadow = "next"\nversions = { old = {}, next = {} }\n'
    services = parse_services(TEXT.replace("[environments", f"{rollout}[environments"), stages=("proxy", "runtime"))
    made = choose_replicas(make_environment(services, "t", describe, project="x", state=str(tmp_path)))
    print_environment(made, FORMATS[form])
    assert "app: next gets no copies of requests, for HAProxy sends none" in capsys.readouterr().err
    (proxy,) = find_proxies(made)
    notes: list[Event] = []
    write_proxy(proxy, notes.append)
    assert [type(one) for one in notes] == [Note]


def test_the_configuration_that_a_file_mounts_is_there(
    scaled: RunningEnvironment, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    print_environment(scaled, FORMATS["print"])
    folder = tmp_path / "proxies/x-t-app/run"
    assert f"--volume={folder}:" in capsys.readouterr().out
    text = (folder / "haproxy.cfg").read_text()
    assert text.count("    server app-") == 3
    assert text.count(" disabled\n") == 2


def test_nobody_works_in_a_proxy(scaled: RunningEnvironment) -> None:
    with pytest.raises(DefinitionError, match="app is the proxy of its replicas") as raised:
        render_devcontainer(scaled, "app", TARGET)
    assert raised.value.hint == "nox -s devcontainer -- t app-1"
    assert "localhost/x/runtime:latest" in render_devcontainer(scaled, "app-1", TARGET)


def test_a_service_with_the_name_of_a_replica_is_refused_with_its_key() -> None:
    text = TEXT.replace('["app"]', '["app", "app-2"]') + '[services.app-2]\nstage = "runtime"\n'
    services = parse_services(text, stages=("proxy", "runtime"))
    with pytest.raises(DefinitionError, match=r"`services.app-2`: is also a replica's name in t"):
        make_environment(services, "t", describe, project="x")
