"""Kubernetes objects of versions and replicas, against the schemas of Kubernetes, Gateway API and KEDA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from buildkit.declare.services_file import parse_services
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.errors import DefinitionError
from buildkit.rollout.manifests import NOT_STICKY, inference_service
from buildkit.running.cluster import route_service
from buildkit.running.environment import RunningEnvironment, make_environment
from buildkit.running.flags import ContainerSpec, make_container
from buildkit.running.kubernetes import render_kubernetes

SCHEMAS = Path(__file__).parent / "schemas"
TEXT = """
[services.app]
stage = "runtime"
ports = ["8000"]
[services.app.rollout]
split = { old = 90, new = 10 }
shadow = "next"
[services.app.rollout.versions]
old = { image = "registry.example/app@sha256:1111111111111111111111111111111111111111111111111111111111111111" }
new = {}
next = { env = { MODEL = "next" } }
[services.app.scale]
min = 2
max = 5
target = { in-flight = 8, cpu = 70, queue = 1, metrics = { tokens_waiting = 2.5 } }
[services.db]
stage = "runtime"
[environments.t]
services = ["app", "db"]
"""


def describe(stage: str) -> ContainerSpec:
    health = Healthcheck(test=("python", "check.py"))
    config = Config(user="1000:1000", ports=("8000",), healthcheck=health)
    return make_container(f"localhost/x/{stage}:latest", f"x-{stage}", config, Running())


def environment(text: str = TEXT) -> RunningEnvironment:
    return make_environment(parse_services(text, stages=("proxy", "runtime")), "t", describe, project="x")


def objects(text: str = TEXT) -> dict[tuple[str, str], dict[str, Any]]:
    found = list(yaml.safe_load_all(render_kubernetes(environment(text))))
    for one in found:
        check(one)
    by_name = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in found}
    assert len(by_name) == len(found)
    return by_name


def check(one: dict[str, Any]) -> None:
    """Fail for an object that its schema does not have, unknown fields included."""
    if one["kind"] in ("HTTPRoute", "ScaledObject"):
        jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{one['kind'].lower()}.json").read_text())).validate(one)
    else:
        kubernetes_validate.validate(one, "1.33", strict=True)


def test_versions_are_deployments_behind_a_route_with_an_autoscaler_each() -> None:
    found = objects()
    deployments = {name for kind, name in found if kind == "Deployment"}
    assert deployments == {"x-t-app-old", "x-t-app-new", "x-t-app-next", "x-t-db"}
    rule = found["HTTPRoute", "app"]["rules"][0]
    assert [(one["name"], one["port"], one["weight"]) for one in rule["backendRefs"]] == [
        ("app-old", 8000, 900),
        ("app-new", 8000, 100),
    ]
    assert rule["filters"][0]["requestMirror"]["backendRef"]["name"] == "app-next"
    for name in ("app-old", "app-new"):
        selector = found["Service", name]["selector"]
        assert selector == found["Deployment", f"x-t-{name}"]["selector"]["matchLabels"]
        assert found["Service", name]["ports"] == [{"port": 8000, "targetPort": 8000}]
    assert found["Service", "app"]["selector"] == found["Service", "app-old"]["selector"]
    scaler = found["HorizontalPodAutoscaler", "x-t-app-new"]
    assert (scaler["scaleTargetRef"]["name"], scaler["minReplicas"], scaler["maxReplicas"]) == ("x-t-app-new", 2, 5)
    names = [one.get("pods", one.get("resource")).get("metric", {"name": "cpu"})["name"] for one in scaler["metrics"]]
    assert names == ["http_server_active_requests", "cpu", "tokens_waiting"]
    assert scaler["metrics"][2]["pods"]["target"]["averageValue"] == "2500m"
    assert scaler["behavior"]["scaleUp"]["policies"] == [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_prometheus_makes_it_keda() -> None:
    found = objects(TEXT.replace("min = 2", 'min = 2\nprometheus = "http://prometheus:9090"'))
    assert not [name for kind, name in found if kind == "HorizontalPodAutoscaler"]
    triggers = found["ScaledObject", "x-t-app-new"]["triggers"]
    assert [one["type"] for one in triggers] == ["prometheus", "cpu", "prometheus"]
    assert triggers[0]["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": 'sum(http_server_active_requests{pod=~"x-t-app-new-[^-]+-[^-]+"})',
        "threshold": "8",
        "ignoreNullValues": "false",
    }


def test_gpus_are_scaled_by_what_the_exporter_of_dcgm_says_of_those_of_a_pod() -> None:
    text = TEXT.replace("cpu = 70", "gpu = 70").replace("[services.db]", "[services.app.gpu]\ncount = 2\n[services.db]")
    busy = objects(text)["HorizontalPodAutoscaler", "x-t-app-new"]["metrics"][1]["pods"]
    assert busy["metric"] == {"name": "DCGM_FI_DEV_GPU_UTIL"}
    assert busy["target"] == {"type": "AverageValue", "averageValue": "140"}, "70 % of each of two"
    keda = objects(text.replace("min = 2", 'min = 2\nprometheus = "http://prometheus:9090"'))
    trigger = keda["ScaledObject", "x-t-app-new"]["triggers"][1]["metadata"]
    assert trigger["query"] == 'sum(DCGM_FI_DEV_GPU_UTIL{pod=~"x-t-app-new-[^-]+-[^-]+"})'
    assert trigger["threshold"] == "140"
    assert "scrape it with `honorLabels`" in render_kubernetes(environment(text)).partition("---")[0]


def test_gpus_are_no_target_of_a_service_that_asks_for_none() -> None:
    with pytest.raises(DefinitionError, match=r"services.app.scale.target.gpu`: the service asks for no GPU"):
        environment(TEXT.replace("cpu = 70", "gpu = 70"))


def test_a_scaled_service_without_versions_is_one_deployment() -> None:
    text = TEXT[: TEXT.index("[services.app.rollout]")] + TEXT[TEXT.index("[services.app.scale]") :]
    found = objects(text)
    assert {name for kind, name in found if kind == "Deployment"} == {"x-t-app", "x-t-db"}
    assert ("HorizontalPodAutoscaler", "x-t-app") in found
    assert ("HTTPRoute", "app") not in found


def test_what_a_cluster_cannot_do_stands_at_the_top() -> None:
    top = render_kubernetes(environment()).partition("---")[0]
    assert f"# {NOT_STICKY}" in top
    assert "# `queue` is that of HAProxy, which does not run here: it is left out" in top


def test_kserve_gets_the_candidate_with_its_share() -> None:
    found = environment()
    document = inference_service(route_service(found, found.get("app"), (("new", 250), ("old", 750))))
    predictor = document["spec"]["predictor"]
    assert (predictor["canaryTrafficPercent"], predictor["scaleTarget"], predictor["maxReplicas"]) == (25, 8, 5)
    assert predictor["containers"][0]["image"] == "localhost/x/runtime:latest"


@pytest.mark.parametrize("kind", ["HTTPRoute", "ScaledObject"])
def test_the_schemas_refuse_a_field_that_there_is_not(kind: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check({"apiVersion": "x", "kind": kind, "metadata": {"name": "x"}, "spec": {"triggerz": []}})
