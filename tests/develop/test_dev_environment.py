"""Which services run for development, and Jupyter beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.declare.stage import Running
from buildkit.develop.dev_environment import (
    give_notebooks,
    load_dev_services,
    make_dev_environment,
    prepare_notebooks,
    with_jupyter,
)
from buildkit.errors import DefinitionError
from buildkit.running.environment import RunningService, make_environment
from buildkit.running.flags import ContainerSpec
from buildkit.running.mounts import BindMount
from tests.stagegraphs import graph

STAGE = '[root]\nimage = "x@sha256:' + "0" * 64 + '"\n[config]\nports = ["8000", "8888", "5678"]\ncmd = ["python"]\n'
PYTHON = "/opt/venv/bin/python"


def test_without_a_file_the_development_stage_runs_alone(tmp_path: Path) -> None:
    services = load_dev_services(tmp_path, graph(development=STAGE, other=STAGE))
    (app,) = services.environment("dev").services
    assert (app.name, app.stage) == ("app", "development")
    assert [port.published for port in app.ports] == ["127.0.0.1:8000:8000"], "the others have their own services"
    (other,) = load_dev_services(tmp_path, graph(other=STAGE), stage="other").environment("dev").services
    assert other.stage == "other"
    with pytest.raises(DefinitionError, match=r"neither services\.toml nor a stage `development`"):
        load_dev_services(tmp_path, graph(other=STAGE))


def test_stage_that_is_none_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="there is no stage `others`") as raised:
        load_dev_services(tmp_path, graph(other=STAGE), stage="others")
    assert raised.value.hint == "stages are other"


def test_file_says_what_runs_unless_a_stage_is_named(tmp_path: Path) -> None:
    text = '[services.web]\nstage = "development"\n[environments.dev]\nservices = ["web"]\n'
    (tmp_path / "services.toml").write_text(text)
    graphs = graph(development=STAGE)
    assert [one.name for one in load_dev_services(tmp_path, graphs).environment("dev").services] == ["web"]
    alone = load_dev_services(tmp_path, graphs, stage="development")
    assert [one.name for one in alone.environment("dev").services] == ["app"]


def jupyter(tmp_path: Path) -> RunningService:
    services = with_jupyter(load_dev_services(tmp_path, graph(development=STAGE)), "dev", "app", python=PYTHON)
    container = ContainerSpec(image="i", name="n", running=Running(), user="1000", owner=(1000, 1000))
    environment = make_environment(services, "dev", lambda _stage: container, project="xoe")
    assert {service.name for service in environment.services} == {"app", "jupyter"}
    return environment.get("jupyter")


def test_jupyter_runs_the_stage_of_the_application_with_a_token_in_a_file(tmp_path: Path) -> None:
    service, notebooks = jupyter(tmp_path), prepare_notebooks(tmp_path, tmp_path)
    mounted = replace(service, container=replace(service.container, mounts=(BindMount(source="/s", target="/app"),)))
    container = give_notebooks(mounted, notebooks, rootless=False).container
    assert service.stage == "development"
    assert container.command[:3] == (PYTHON, "-m", "jupyterlab")
    assert dict(container.env)["PYTHONPATH"] == "/app"
    texts = [mount.text for mount in container.mounts]
    assert f"{tmp_path}/notebooks:/notebooks:rw,nosuid,nodev,z" in texts
    assert notebooks.token not in repr(container), "podman would show it"
    assert notebooks.token_file.read_text() == notebooks.token
    assert notebooks.link.endswith(f"token={notebooks.token}")
    assert prepare_notebooks(tmp_path, tmp_path).token != notebooks.token


@pytest.mark.parametrize(
    ("owner", "rootless", "user", "option", "more"),
    [
        ((1234, 1235), False, "1234:1235", (), ()),
        ((0, 0), False, "0:0", (), ("--allow-root",)),
        ((1234, 1235), True, "1000:1000", ("--userns=keep-id:uid=1000,gid=1000",), ()),
    ],
)
def test_notebooks_belong_to_the_developer(
    tmp_path: Path, owner: tuple[int, int], rootless: bool, user: str, option: tuple[str, ...], more: tuple[str, ...]
) -> None:
    notebooks = replace(prepare_notebooks(tmp_path, tmp_path), owner=owner)
    container = give_notebooks(jupyter(tmp_path), notebooks, rootless=rootless).container
    assert (container.user, container.options) == (user, option)
    assert container.command[-1:] == (more or ("--ServerApp.root_dir=/notebooks",))


def test_services_that_share_gpus_get_their_daemon_which_no_change_of_files_touches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[services.web]\nstage = "development"\ngpu = { share = "mps" }\n[environments.dev]\nservices = ["web"]\n'
    (tmp_path / "services.toml").write_text(text)
    container = ContainerSpec(image="i", name="n", running=Running(), user="1000", owner=(1000, 1000))
    monkeypatch.setattr("buildkit.develop.dev_environment.describe_container", lambda _planner, _stage: container)
    planner = SimpleNamespace(context=SimpleNamespace(project=SimpleNamespace(name="xoe")))
    services = load_dev_services(tmp_path, graph(development=STAGE))
    daemon, web = make_dev_environment(services, planner).services
    assert (daemon.name, daemon.stage, daemon.container.image) == ("mps", "", "i")
    assert (web.bound_to, web.stage) == (("mps",), "development")
