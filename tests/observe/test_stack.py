"""What watches as an environment: what it asks, whose network it joins, and each format of it."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from buildkit.declare.services import Services
from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.errors import DefinitionError
from buildkit.observe.stack import Watched, choose_environment, make_stack
from buildkit.running.commands import render_commands
from buildkit.running.compose import render_compose_environment
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container, run_argv
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.mounts import BindMount
from buildkit.running.quadlet import render_quadlet_environment
from buildkit.services import stack_project

TEXT = """
[services.app]
stage = "runtime"
ports = ["8000"]
metrics = {}
replicas = 2
[services.job]
stage = "runtime"
metrics = { port = 1 }
[services.redis]
stage = "runtime"
depends-on = { job = "completed" }
[services.grown]
stage = "runtime"
ports = ["8100:8000"]
metrics = { path = "/m" }
scale = { min = 1, max = 2, target = { in-flight = 4 } }
[secrets.hook]
env = "HOOK"
[secrets.other]
env = "OTHER"
[environments.production]
services = ["app", "job", "redis", "grown"]
[observe]
retention = { days = 3, size = "500m" }
ports = { prometheus = 9999 }
"""


def describe(stage: str) -> ContainerSpec:
    health = Healthcheck(test=("true", "x"))
    config = Config(user="1000:1000", healthcheck=health)
    return make_container(f"localhost/p/{stage}:latest", f"p-{stage}", config, Running())


def watch(text: str = TEXT, **more: Any) -> Watched:
    services = parse_services(text, stages=("runtime", "proxy"))
    production = make_environment(services, "production", describe, project="p", state="/state")
    return Watched(project="p", services=services, environment=production, **more)


def stack(text: str = TEXT, **more: Any) -> RunningEnvironment:
    return make_stack(watch(text, **more), describe, "/state")


def mount(environment: RunningEnvironment, name: str) -> BindMount:
    [found] = [one for one in environment.get(name).container.mounts if isinstance(one, BindMount)]
    return found


def asked(environment: RunningEnvironment) -> list[dict[str, Any]]:
    settings = yaml.safe_load(dict(mount(environment, "prometheus").files)["prometheus.yml"])
    jobs = {one["job_name"]: one["static_configs"] for one in settings["scrape_configs"]}
    assert jobs.keys() - {"services"} <= {"prometheus", "alertmanager", "node-exporter", "monitor"}
    found: list[dict[str, Any]] = jobs.get("services", [])
    return found


def test_each_replica_is_asked_at_its_address_and_a_job_is_not() -> None:
    watched = watch()
    assert watched.environment is not None
    addresses = watched.environment.network.addresses
    found = {one["labels"]["instance"]: one for one in asked(stack())}
    assert set(found) == {"app-1", "app-2", "grown-1", "grown-2"}
    assert found["app-2"]["targets"] == [f"{addresses['app-2']}:8000"]
    assert found["app-2"]["labels"] == {
        "__metrics_path__": "/metrics", "project": "p", "environment": "production", "service": "app",
        "instance": "app-2",
    }  # fmt: skip
    assert found["grown-1"]["labels"]["__metrics_path__"] == "/m"
    assert [name for name, one in sorted(found.items()) if "may_rest" in one["labels"]] == ["grown-1", "grown-2"]


def test_prometheus_alone_joins_the_network_and_nothing_becomes_open() -> None:
    environment = stack()
    production = environment.joined
    assert production is not None
    for service in environment.services:
        names = [network.name for network in service.container.networks]
        joins = service.name == "prometheus"
        assert names == ["p-observe", "p-production"] if joins else names == ["p-observe"]
        assert not service.container.running.outgoing
        assert all(port.address == "127.0.0.1" for port in service.container.ports)
    guest = production.network.guest
    assert guest == str(ipaddress.IPv4Network(production.network.subnet)[254])
    assert guest not in production.network.addresses.values()
    flags = run_argv(environment.get("prometheus").container, "--detach")
    assert [word for word in flags if word.startswith("--network=p-production:")] == [
        f"--network=p-production:ip={guest},mac=02:42:" + ":".join(f"{int(part):02x}" for part in guest.split("."))
    ]
    assert "--publish=127.0.0.1:9999:9090" in flags
    assert "--storage.tsdb.retention.time=3d" in flags
    assert "--storage.tsdb.retention.size=500MB" in flags


def test_alertmanager_reaches_others_and_reads_secrets_only_if_it_tells_somebody() -> None:
    telling = stack(TEXT + 'webhook = { url-secret = "hook" }\n')
    container = telling.get("alertmanager").container
    assert container.running.outgoing
    assert [secret.name for secret in container.secrets] == ["hook"]
    assert [one.name for one in telling.secrets] == ["p-observe-hook"]
    [receiver] = [
        one
        for one in yaml.safe_load(mount(telling, "alertmanager").files[0][1])["receivers"]
        if one["name"] == "people"
    ]
    assert receiver["webhook_configs"] == [{"url_file": "/run/secrets/hook", "send_resolved": True}]
    assert not any(one.container.running.outgoing for one in telling.services if one.name != "alertmanager")
    assert not stack().get("alertmanager").container.secrets


def test_other_files_are_in_another_folder() -> None:
    before, after = stack(), stack(TEXT + "thresholds = { restarts = 9 }\n")
    assert mount(before, "prometheus").source != mount(after, "prometheus").source
    assert mount(before, "alertmanager") == mount(after, "alertmanager")
    with_rules = stack(rules=(("own-0-x.yml", "groups: []\n"),))
    assert ("own-0-x.yml", "groups: []\n") in mount(with_rules, "prometheus").files


def test_formats_have_the_networks_and_files_of_the_commands(tmp_path: Path) -> None:
    environment = stack()
    compose = render_compose_environment(environment)
    (tmp_path / "compose.yaml").write_text(compose)
    tool = Path(sys.executable).with_name("check-jsonschema")
    argv = (tool, "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml")
    assert subprocess.run(argv, capture_output=True).returncode == 0
    document = yaml.safe_load(compose)
    assert document["networks"]["p-production"] == {"name": "p-production", "external": True}
    assert environment.joined is not None
    guest = environment.joined.network.guest
    assert document["services"]["prometheus"]["networks"]["p-production"] == {"ipv4_address": guest}
    units = dict(render_quadlet_environment(environment))
    joined = dict(render_quadlet_environment(environment.joined))
    assert units["p-production.network"] == joined["p-production.network"]
    assert f"Network=p-production.network:ip={guest}," in units["p-observe-prometheus.container"]
    assert "podman network exists p-production || podman network create" in render_commands(environment)
    source = mount(environment, "prometheus").source
    assert f"Volume={source}:/etc/xoe:ro,nosuid,nodev,z" in units["p-observe-prometheus.container"]


def test_in_a_cluster_services_have_names_and_policies_let_prometheus_ask() -> None:
    environment = stack(in_cluster=True)
    objects = list(yaml.safe_load_all(render_kubernetes(environment)))
    for one in objects:
        kubernetes_validate.validate(one, "1.33", strict=True)
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert not [name for _, name in found if "monitor" in name]
    files = found["ConfigMap", "p-observe-prometheus-etc-xoe-folder"]["data"]
    settings = yaml.safe_load(files["prometheus.yml"])
    [services] = [one for one in settings["scrape_configs"] if one["job_name"] == "services"]
    assert [one["targets"] for one in services["static_configs"]] == [["app:8000"], ["grown:8000"]]
    pod = found["Deployment", "p-observe-prometheus"]["spec"]["template"]["spec"]
    assert {"name": "etc-xoe-folder", "configMap": {"name": "p-observe-prometheus-etc-xoe-folder"}} in pod["volumes"]
    watched = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "p-production"}}}
    egress = found["NetworkPolicy", "p-observe-prometheus"]["spec"]["egress"]
    assert {"to": [watched]} in egress
    allowed = found["NetworkPolicy", "p-observe-prometheus-watches"]["spec"]
    assert allowed["podSelector"] == watched["podSelector"]
    assert allowed["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "prometheus"


def test_what_is_watched_is_named_or_the_only_one() -> None:
    services = watch().services
    assert choose_environment(services, "") == "production"
    assert choose_environment(Services(file="services.toml"), "") == ""
    twice = (*services.environments, replace(services.environments[0], name="dev"))
    with pytest.raises(DefinitionError, match="which environment is to be watched"):
        choose_environment(replace(services, environments=twice), "")
    assert choose_environment(replace(services, environments=twice), "dev") == "dev"
    chosen = replace(services, environments=twice, observe=replace(services.observe, environment="dev"))
    assert choose_environment(chosen, "") == "dev"


def test_networks_that_overlap_are_refused() -> None:
    own = stack().network.subnet
    text = TEXT.replace("[environments.production]\n", f'[environments.production]\nsubnet = "{own}"\n')
    with pytest.raises(DefinitionError, match="overlap"):
        stack(text)


def test_without_services_the_host_is_watched() -> None:
    alone = make_stack(Watched(project="p", services=Services(file="services.toml")), describe, "/state")
    assert asked(alone) == []
    assert {one.name for one in alone.services} == {"prometheus", "alertmanager", "node-exporter", "monitor"}
    assert alone.joined is None


def test_project_of_what_watches_replaces_what_nobody_uses_and_no_other_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_project, "key_file", lambda: tmp_path / "key")
    former, used = tmp_path / "observe/project-1234", tmp_path / "observe/project-5678"
    for one in (former, used):
        (one / "code/buildkit").mkdir(parents=True)
        (one / "code/buildkit/__init__.py").touch()
    os.utime(former, (0, 0))
    named_alike = tmp_path / "observe/project-x/feed"  # of a user's project of this name
    named_alike.mkdir(parents=True)
    assert (stack_project.ensure_stack_project() / "pyproject.toml").is_file()
    assert named_alike.is_dir()
    assert used.is_dir(), "another version may be building from it"
    assert not former.exists()
    folder = stack_project.ensure_stack_project()
    os.utime(folder, (0, 0))
    assert stack_project.ensure_stack_project().stat().st_mtime > 0, "it is used again"
