"""Render an environment as Kubernetes objects of v1, apps/v1, batch/v1 and networking.k8s.io/v1.

Kubernetes has no order of starts, no limit of processes per container, and addresses of its own: names are those of
Services without an address of their own, which point to the pods.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from buildkit.declare.stage import Healthcheck
from buildkit.gpu.mps import limit_variables
from buildkit.rollout.manifests import RoutedService, rollout_notes, rollout_objects
from buildkit.running.cluster import find_routed, in_cluster
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.flags import ContainerSpec
from buildkit.running.gpu_nodes import gpu_limits, node_affinity
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.mounts import SECRETS, BindMount, SecretMount, VolumeMount
from buildkit.running.yaml_text import render_yaml

_ENVIRONMENT, _SERVICE = "app.kubernetes.io/part-of", "app.kubernetes.io/name"
_UNITS = {"k": "Ki", "m": "Mi", "g": "Gi", "": ""}
_NOTHING = "4Ki"  # the size of an empty folder that stays empty
_PROGRESS, _MARGIN = 600, 300  # seconds after which a Deployment counts as failed, and that an image's pull may take
_STORAGE = "1Gi"  # asked of a claim; raise it there
_CLUSTER = (
    "Service",
    "NetworkPolicy",
    "HTTPRoute",
    "HorizontalPodAutoscaler",
    "ScaledObject",
)  # kinds that podman does not know
_POLICY = "networking.k8s.io/v1"
_DNS = {"kubernetes.io/metadata.name": "kube-system"}


def render_kubernetes(environment: RunningEnvironment, form: GpuFormat = GpuFormat.KUBERNETES) -> str:
    """Return the YAML of an environment; comments at its top are commands that make its secrets.

    ``form`` is that of Kubernetes or of ``podman kube play``, which has other words for GPUs, and no other objects than
    volumes and pods.
    """
    routed = find_routed(environment)
    environment = in_cluster(environment)
    header = (
        *_secret_commands(environment),
        *_notes(environment, form),
        *(n for one in routed for n in rollout_notes(one)),
    )
    objects: Iterator[dict[str, Any]] = chain(
        _objects(environment, form), *(_routed_objects(environment, one) for one in routed)
    )
    if form is GpuFormat.PLAY:
        objects = (one for one in objects if one["kind"] not in _CLUSTER)
    return render_yaml(*objects, header=header)


def _routed_objects(environment: RunningEnvironment, routed: RoutedService) -> Iterator[dict[str, Any]]:
    """Yield the Service by which others reach a service with versions, its route and its autoscalers."""
    if routed.shares:
        control = {_ENVIRONMENT: f"{environment.project}-{environment.name}"}
        control[_SERVICE] = f"{routed.name}-{routed.shares[0][0]}"
        yield _object("v1", "Service", routed.name, control, _reachable(routed.port, control))
    yield from rollout_objects(routed)


def _reachable(port: int, selector: dict[str, str]) -> dict[str, Any]:
    return {"selector": selector, "ports": [{"port": port, "targetPort": port}]}


def _notes(environment: RunningEnvironment, form: GpuFormat) -> Iterator[str]:
    if form is GpuFormat.PLAY:
        closed = environment.network.name
        yield f"podman knows no NetworkPolicy: podman kube play --network {closed} FILE, once --print's command made it"
    yield from gpu_notes((service.container for service in environment.services), form)
    if any(service.container.models for service in environment.services):
        yield "image volumes (models) need Kubernetes 1.33 with the feature ImageVolume, on by default from 1.35"


def _secret_commands(environment: RunningEnvironment) -> Iterator[str]:
    for service in environment.services:
        if service.container.secrets:
            files = " ".join(f"--from-file={secret.name}=FILE" for secret in service.container.secrets)
            yield f"kubectl create secret generic {service.container.name} {files}"


def _objects(environment: RunningEnvironment, form: GpuFormat) -> Iterator[dict[str, Any]]:
    labels = {_ENVIRONMENT: f"{environment.project}-{environment.name}"}
    for volume in environment.volumes:
        size = environment.volume(volume).size
        storage = _quantity(size) if size else _STORAGE
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}
        yield _object("v1", "PersistentVolumeClaim", volume, labels, claim)
    jobs = environment.jobs
    for service in environment.services:
        own = {**labels, _SERVICE: service.name}
        yield from _config_maps(service.container, own)
        pod = {
            "metadata": {"labels": own, **_scraped(service.container)},
            "spec": _pod(service.container, form, is_job=service.name in jobs),
        }
        if service.name in jobs:
            yield _object("batch/v1", "Job", service.container.name, own, {"template": pod})
            continue
        yield _object("apps/v1", "Deployment", service.container.name, own, _deployed(service, own, pod))
        headless = {"clusterIP": "None", "selector": own}
        balanced = _reachable(service.container.ports[0].number, own) if service.replica else headless
        yield _object("v1", "Service", service.name, own, balanced)
        if not service.container.running.outgoing:
            yield from _policies(environment, service, own, labels)


def _config_maps(container: ContainerSpec, own: dict[str, str]) -> Iterator[dict[str, Any]]:
    for mount in container.mounts:
        if isinstance(mount, BindMount) and mount.files:
            about = _object("v1", "ConfigMap", _files_name(container, mount), own, {})
            yield {**about, "data": dict(mount.files)}


def _deployed(service: RunningService, own: dict[str, str], pod: dict[str, Any]) -> dict[str, Any]:
    strategy = "RollingUpdate" if service.replica else "Recreate"
    spec = {"replicas": 1, "strategy": {"type": strategy}, "selector": {"matchLabels": own}, "template": pod}
    if (wait := service.container.health) and wait.start_period > _PROGRESS - _MARGIN:
        spec["progressDeadlineSeconds"] = wait.start_period + _MARGIN
    return spec


def _policies(
    environment: RunningEnvironment, service: RunningService, own: dict[str, str], labels: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the policy of a closed service, after that by which it reaches an environment that it watches."""
    policy = _policy(service, own, labels)
    if environment.joined and len(service.container.networks) > 1:
        watched = {"podSelector": {"matchLabels": {_ENVIRONMENT: environment.joined.network.name}}}
        policy["egress"].append({"to": [watched]})
        ingress = [{"from": [{"podSelector": {"matchLabels": own}}]}]
        allowed = {**watched, "policyTypes": ["Ingress"], "ingress": ingress}
        yield _object(_POLICY, "NetworkPolicy", f"{service.container.name}-watches", own, allowed)
    yield _object(_POLICY, "NetworkPolicy", service.container.name, own, policy)


def _files_name(container: ContainerSpec, mount: BindMount) -> str:
    return f"{container.name}-{_name(mount.target)}"


def _scraped(container: ContainerSpec) -> dict[str, Any]:
    """Return the annotations by which Prometheus, in its usual configuration for clusters, finds metrics."""
    if container.metrics is None:
        return {}
    port, path = container.metrics
    named = {"scrape": "true", "port": port, "path": path}
    return {"annotations": {f"prometheus.io/{name}": value for name, value in named.items()}}


def _object(version: str, kind: str, name: str, labels: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    about = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}}
    return {**about, "spec": spec} if spec else about


def _policy(service: RunningService, own: dict[str, str], labels: dict[str, str]) -> dict[str, Any]:
    """Return a policy that lets a closed service reach its own environment and the cluster's name server alone."""
    dns = {
        "to": [{"namespaceSelector": {"matchLabels": _DNS}}],
        "ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")],
    }
    ports = [{"port": port.number, "protocol": port.protocol.upper()} for port in service.container.ports]
    within = {"podSelector": {"matchLabels": labels}}
    return {
        "podSelector": {"matchLabels": own},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [within]}, *([{"ports": ports}] if ports else [])],
        "egress": [{"to": [within]}, dns],
    }


def _pod(container: ContainerSpec, form: GpuFormat, *, is_job: bool) -> dict[str, Any]:
    volumes, mounts = zip(*_volumes(container), strict=True)
    written: dict[str, Any] = {
        "name": container.hostname,
        "image": container.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(container.entrypoint),
        "args": list(container.command),
        "env": [{"name": name, "value": value} for name, value in _variables(container, form)]
        + [_from_secret(container, secret) for secret in container.secret_variables],
        "ports": [
            {
                "containerPort": port.number,
                "protocol": port.protocol.upper(),
                **({"hostPort": port.host, "hostIP": port.address} if port.host else {}),
            }
            for port in container.ports
        ],
        "resources": {"limits": {**_limits(container), **_gpus(container, form)}},
        "securityContext": _security(container),
        "volumeMounts": list(mounts),
    }
    if container.health and not is_job:
        written |= _probes(container.health, form)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": container.running.stop_seconds,
        "containers": [{key: value for key, value in written.items() if value not in ([], {})}],
        "volumes": list(volumes),
    }
    if container.gpu and form is GpuFormat.KUBERNETES:
        spec["affinity"] = node_affinity(container.gpu)
    if container.owner:
        spec["securityContext"] = {"fsGroup": container.owner[1]}  # volumes and secrets are its user's
    return spec | ({"restartPolicy": "Never"} if is_job else {})


def _variables(container: ContainerSpec, form: GpuFormat) -> tuple[tuple[str, str], ...]:
    """Return the environment; limits of a client of the plugin's MPS, which knows only its own for all."""
    if form is not GpuFormat.KUBERNETES or container.gpu is None or container.gpu.share != "mps":
        return container.env
    limits = dict(limit_variables(container.gpu.mps, sum(gpu_limits(container).values())))
    return tuple((dict(container.env) | limits).items())


def _security(container: ContainerSpec) -> dict[str, Any]:
    profile = {"type": "RuntimeDefault"}
    if container.seccomp:
        profile = {"type": "Localhost", "localhostProfile": container.seccomp}
    users = {"runAsUser": container.owner[0], "runAsGroup": container.owner[1]} if container.owner else {}
    return {
        "runAsNonRoot": True,
        **users,
        "readOnlyRootFilesystem": container.read_only,
        "allowPrivilegeEscalation": container.gains_privileges,
        "capabilities": {"drop": ["ALL"], **({"add": list(container.capabilities)} if container.capabilities else {})},
        "seccompProfile": profile,
    }


def _limits(container: ContainerSpec) -> dict[str, str]:
    limits = {"memory": _quantity(container.running.memory)}
    return limits | ({"cpu": f"{container.running.cpus:g}"} if container.running.cpus else {})


def _gpus(container: ContainerSpec, form: GpuFormat) -> dict[str, int]:
    """Return limits: podman takes names of CDI, which no cluster knows, and ignores those of a cluster."""
    return dict.fromkeys(container.given_devices, 1) if form is GpuFormat.PLAY else gpu_limits(container)


def _quantity(size: str) -> str:
    """Return a size (``512m``) as Kubernetes writes it (``512Mi``)."""
    return size.rstrip("kmg") + _UNITS[size[-1] if size[-1] in _UNITS else ""]


def _from_secret(container: ContainerSpec, secret: SecretMount) -> dict[str, Any]:
    reference = {"name": container.name, "key": secret.name}
    return {"name": secret.variable, "valueFrom": {"secretKeyRef": reference}}


def _probes(health: Healthcheck, form: GpuFormat) -> dict[str, Any]:
    """Return probes; a start period is a probe of its own, which ends early, but podman's delay ends early, too."""
    probe: dict[str, Any] = {
        "exec": {"command": list(health.test)},
        "periodSeconds": max(health.interval, 1),
        "timeoutSeconds": max(health.timeout, 1),
        "failureThreshold": health.retries,
    }
    if form is GpuFormat.PLAY:
        probe["initialDelaySeconds"] = health.start_period
    probes = {"livenessProbe": probe, "readinessProbe": probe}
    if form is GpuFormat.PLAY or not health.start_period:
        return probes
    failures = health.retries + health.start_period // probe["periodSeconds"]
    return {"startupProbe": {**probe, "failureThreshold": failures}, **probes}


def _volumes(container: ContainerSpec) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each volume of a pod with its mount."""
    sizes = dict(container.running.tmpfs)
    for folder, _ in container.folders:
        name = _name(folder)
        size = _quantity(sizes[folder]) if folder in sizes else _NOTHING
        mount = {"name": name, "mountPath": folder} | ({} if folder in sizes else {"readOnly": True})
        yield {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}, mount
    for one in container.mounts:
        if isinstance(one, VolumeMount):
            claim = {"persistentVolumeClaim": {"claimName": one.volume}}
            yield {"name": one.volume, **claim}, {"name": one.volume, "mountPath": one.target}
        else:
            path = {"name": _name(one.target), "mountPath": one.target, "readOnly": not one.writable}
            held = {"configMap": {"name": _files_name(container, one)}}
            yield {"name": _name(one.target), **(held if one.files else {"hostPath": {"path": one.source}})}, path
    if models := container.models:
        image = {"image": {"reference": models.image, "pullPolicy": "IfNotPresent"}}
        yield {"name": "models", **image}, {"name": "models", "mountPath": models.target, "readOnly": True}
    if container.secret_files:
        keys = [{"key": one.name, "path": one.name} for one in container.secret_files]
        only = {"items": keys} if container.secret_variables else {}
        secret = {"secret": {**only, "secretName": container.name, "defaultMode": 0o440}}
        yield {"name": "secrets", **secret}, {"name": "secrets", "mountPath": SECRETS, "readOnly": True}


def _name(folder: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-") + "-folder"
