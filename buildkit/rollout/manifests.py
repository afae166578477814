"""Kubernetes objects for versions and replicas: routes, and autoscalers. Values that any YAML writer takes.

HTTPRoute is Gateway API v1, HorizontalPodAutoscaler autoscaling/v2, ScaledObject KEDA's v1alpha1 and InferenceService
KServe's v1beta1. In-flight requests are what OpenTelemetry's conventions name ``http.server.active_requests``, the use
of GPUs is that of NVIDIA's DCGM exporter (https://github.com/NVIDIA/dcgm-exporter), per cent of each GPU of a pod.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.declare.rollout import Scale, ScaleRate

IN_FLIGHT = "http_server_active_requests"
GPU_BUSY = "DCGM_FI_DEV_GPU_UTIL"
NOT_STICKY = (
    "weights of a route are chances of each request: unlike HAProxy, a gateway does not keep a user at a version"
)
_SYNC_SECONDS = 15
Targets = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedService:
    """A service of a cluster: ``workload`` (``PREFIX-app``) and name get ``-VERSION`` behind them for each version.

    ``shares`` are the versions' of 1000 requests; without versions, the workload is one. ``images`` are by version.
    A replica has ``gpus``.
    """

    name: str
    workload: str
    port: int
    shares: tuple[tuple[str, int], ...] = ()
    shadow: str = ""
    scale: Scale | None = None
    images: tuple[tuple[str, str], ...] = ()
    gpus: int = 0

    @property
    def workloads(self) -> tuple[str, ...]:
        """The names of the Deployments."""
        named = (*(version for version, _ in self.shares), *filter(None, [self.shadow]))
        return tuple(f"{self.workload}-{version}" for version in named) or (self.workload,)


def rollout_objects(service: RoutedService) -> Iterator[dict[str, Any]]:
    """Yield a route if there are versions, and an autoscaler for each if there is a scale."""
    if service.shares:
        yield _route(service)
    for workload in service.workloads:
        if service.scale and service.scale.prometheus:
            yield _scaled_object(workload, service.scale, list(_metrics(service)))
        elif service.scale:
            yield _autoscaler(workload, service.scale, list(_metrics(service)))


def rollout_notes(service: RoutedService) -> Iterator[str]:
    """Yield what the objects cannot say."""
    if service.shares:
        yield NOT_STICKY
        yield "the HTTPRoute needs your Gateway in `parentRefs`"
    scale = service.scale
    if scale and any(name == "queue" for name, _ in scale.targets):
        yield "`queue` is that of HAProxy, which does not run here: it is left out"
    metrics = [name for name, _ in _metrics(service) if name != "cpu"]
    if scale and not scale.prometheus and metrics:
        yield f"metrics of pods ({', '.join(metrics)}) need an adapter, such as prometheus-adapter"
    if GPU_BUSY in metrics:
        yield f"{GPU_BUSY} is DCGM exporter's: scrape it with `honorLabels`, so that `pod` is the one that has the GPU"


def _object(version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _route(service: RoutedService) -> dict[str, Any]:
    backends = [
        {"name": f"{service.name}-{version}", "port": service.port, "weight": share}
        for version, share in service.shares
    ]
    rule: dict[str, Any] = {"backendRefs": backends}
    if service.shadow:
        mirrored = {"backendRef": {"name": f"{service.name}-{service.shadow}", "port": service.port}}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirrored}]
    spec = {"parentRefs": [{"name": "gateway"}], "rules": [rule]}
    return _object("gateway.networking.k8s.io/v1", "HTTPRoute", service.name, spec)


def _metrics(service: RoutedService) -> Iterator[tuple[str, float]]:
    """Yield metrics by their names in Prometheus, ``cpu`` apart, and what a pod should have of each."""
    for name, target in service.scale.targets if service.scale else ():
        if name == "in-flight":
            yield IN_FLIGHT, target
        elif name == "gpu":
            yield GPU_BUSY, target * service.gpus
        elif name != "queue":
            yield name.removeprefix("metric:"), target


def _autoscaler(workload: str, scale: Scale, targets: Targets) -> dict[str, Any]:
    metrics: list[dict[str, Any]] = []
    for name, target in targets:
        if name == "cpu":
            aim: dict[str, Any] = {"type": "Utilization", "averageUtilization": round(target)}
            metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": aim}})
        else:
            aim = {"type": "AverageValue", "averageValue": _quantity(target)}
            metrics.append({"type": "Pods", "pods": {"metric": {"name": name}, "target": aim}})
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload},
        "minReplicas": scale.least,
        "maxReplicas": scale.most,
        "metrics": metrics,
        "behavior": _behavior(scale),
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", workload, spec)


def _scaled_object(workload: str, scale: Scale, targets: Targets) -> dict[str, Any]:
    triggers: list[dict[str, Any]] = []
    for name, target in targets:
        if name == "cpu":
            triggers.append({"type": "cpu", "metricType": "Utilization", "metadata": {"value": f"{target:g}"}})
            continue
        metadata = {
            "serverAddress": scale.prometheus,
            "query": f'sum({name}{{pod=~"{workload}-[^-]+-[^-]+"}})',
            "threshold": f"{target:g}",
            "ignoreNullValues": "false",  # no data is an error, not a load of zero
        }
        triggers.append({"type": "prometheus", "metricType": "AverageValue", "metadata": metadata})
    spec = {
        "scaleTargetRef": {"name": workload},
        "minReplicaCount": scale.least,
        "maxReplicaCount": scale.most,
        "pollingInterval": _SYNC_SECONDS,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scale)}},
        "triggers": triggers,
    }
    return _object("keda.sh/v1alpha1", "ScaledObject", workload, spec)


def _behavior(scale: Scale) -> dict[str, Any]:
    return {"scaleUp": _rules(scale.up), "scaleDown": _rules(scale.down)}


def _rules(rate: ScaleRate) -> dict[str, Any]:
    kinds = (("Pods", rate.replicas), ("Percent", rate.percent))
    policies = [{"type": kind, "value": value, "periodSeconds": rate.period} for kind, value in kinds if value]
    return {
        "stabilizationWindowSeconds": rate.window,
        "selectPolicy": rate.select.capitalize(),
        **({"policies": policies} if policies else {}),
    }


def _quantity(value: float) -> str:
    """Return a quantity of Kubernetes: ``8``, or thousandths (``2500m``)."""
    return f"{value:g}" if value == round(value) else f"{round(value * 1000)}m"


def inference_service(service: RoutedService) -> dict[str, Any]:
    """Return KServe's object of the candidate, which takes its share from the revision that served before.

    Raises ValueError without two versions and their images.
    """
    if len(service.shares) != len(("control", "candidate")):
        raise ValueError("KServe splits between the last revision and one candidate: declare two versions")
    candidate, share = service.shares[1]
    predictor: dict[str, Any] = {
        "canaryTrafficPercent": round(share / 10),
        "containers": [
            {
                "name": "kserve-container",
                "image": dict(service.images)[candidate],
                "ports": [{"containerPort": service.port, "protocol": "TCP"}],
            }
        ],
    }
    if scale := service.scale:
        predictor |= {"minReplicas": scale.least, "maxReplicas": scale.most}
        if target := dict(scale.targets).get("in-flight"):
            predictor |= {"scaleMetric": "concurrency", "scaleTarget": round(target)}
    return _object("serving.kserve.io/v1beta1", "InferenceService", service.name, {"predictor": predictor})
