"""An inference container (NIM) as an ordinary service: its cache, shared memory, key, patience and network. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from buildkit.declare.nim_settings import CACHE, PORT, SHARED_MEMORY, Nim
from buildkit.declare.services import NamedVolume, Service
from buildkit.declare.stage import Healthcheck

_READY = f"http://127.0.0.1:{PORT}/v1/health/ready"  # 503 while the model loads
# curl is not in every image, and Python is
_TEST = ("python3", "-c", f"import urllib.request as r; r.urlopen('{_READY}', timeout=5)")
_CHECK = Healthcheck(test=_TEST, interval=10, timeout=10, retries=6)
_SECONDS = 60  # of a minute
_DEFAULTS: dict[str, Any] = {
    "pids": 4096,
    "stop_seconds": 60,
    "system_calls": "default",  # the profile for services has not been held against drivers and collectives
}


def with_nim(service: Service) -> Service:
    """Return a service with all that its ``nim`` stands for; keys of its own win."""
    nim = service.nim
    if nim is None:
        return service
    cache = NamedVolume(name=nim.cache, target=CACHE, owned=True, size=nim.disk)
    health = service.health or _CHECK
    return replace(
        service,
        volumes=(*service.volumes, cache),
        secret_variables=((nim.key_variable, nim.key),) if nim.key else (),
        env=tuple(sorted((dict(_variables(nim)) | dict(service.env)).items())),
        resources=tuple(sorted(_resources(service, nim).items())),
        health=replace(health, start_period=health.start_period or nim.start_minutes * _SECONDS),
    )


def _variables(nim: Nim) -> Iterator[tuple[str, str]]:
    yield "NIM_CACHE_PATH", CACHE
    if nim.model:
        yield "NIM_MODEL_PATH", nim.model
    if nim.air_gapped:
        yield "HF_HUB_OFFLINE", "1"


def _resources(service: Service, nim: Nim) -> dict[str, Any]:
    said = {**_DEFAULTS, "outgoing": not nim.air_gapped, **dict(service.resources)}
    folders = dict(said.get("tmpfs", (("/tmp", "1g"),)))  # noqa: S108 - the container's
    return said | {"tmpfs": tuple(sorted((folders | {SHARED_MEMORY: nim.shared_memory}).items()))}
