"""Where a container has metrics, in every format."""

from __future__ import annotations

import pytest

from buildkit.declare.observe_settings import Metrics
from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.declare.stage_file import parse_stage
from buildkit.errors import DefinitionError
from buildkit.running.compose import render_compose, render_compose_environment
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container, run_argv
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.quadlet import render_quadlet, render_quadlet_environment

CONFIG = Config(user="1000", ports=("8000", "8002"), healthcheck=Healthcheck(test=("true",)))
LABEL = "io.xoe.buildkit.metrics"


def describe(stage: str) -> ContainerSpec:
    metrics = "8002/metrics" if stage == "triton" else ""
    return make_container(f"localhost/x/{stage}:latest", f"x-{stage}", CONFIG, Running(metrics=metrics))


def made(more: str = "") -> RunningEnvironment:
    services = f'[services.app]\nstage = "triton"\n{more}\n[services.db]\nstage = "db"\n'
    text = f'{services}[environments.t]\nservices = ["app", "db"]\n'
    return make_environment(parse_services(text, stages=("triton", "db")), "t", describe, project="x")


def test_every_format_says_where_the_metrics_are() -> None:
    container = describe("triton")
    assert f"--label={LABEL}=8002/metrics" in run_argv(container, "--rm")
    assert f"{LABEL}: 8002/metrics" in render_compose(container)
    assert f"Label={LABEL}=8002/metrics\n" in dict(render_quadlet(container))["x-triton.container"]
    environment = made()
    assert render_compose_environment(environment).count(LABEL) == 1
    assert sum(text.count(LABEL) for _, text in render_quadlet_environment(environment)) == 1
    text = render_kubernetes(environment)
    for line in ("prometheus.io/path: /metrics", "prometheus.io/port: '8002'", "prometheus.io/scrape: 'true'"):
        assert text.count(line) == 1


def test_a_service_may_say_it_itself_and_a_container_without_says_nothing() -> None:
    (app,) = (one for one in made('metrics = { port = 9000, path = "/own" }').services if one.name == "app")
    assert (app.container.metrics, app.metrics) == (("9000", "/own"), Metrics(port=9000, path="/own"))
    (app,) = (one for one in made().services if one.name == "app")
    assert app.metrics == Metrics(port=8002), "nox -s observe asks it"
    assert describe("db").metrics is None
    assert not any("label" in word for word in run_argv(describe("db"), "--rm"))


def test_only_a_port_with_a_path_is_a_place() -> None:
    for wrong in ("8002", "/metrics", "x/metrics", "8002/me trics"):
        with pytest.raises(DefinitionError, match="is not a port and a path"):
            parse_stage(f'summary = "x"\n[running]\nmetrics = "{wrong}"\n', name="x", file="stages/x/stage.toml")
