"""What a format cannot say of a request for GPUs, in words for a comment and a warning. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum

from buildkit.running.flags import ContainerSpec

_BY_INDEX = re.compile(r"[^=]+=(?:\d+(?::\d+)?|all)")


class GpuFormat(StrEnum):
    """A format that is rendered."""

    HOST = "podman"  # commands and units
    PODMAN = "podman-compose"
    DOCKER = "docker compose"
    KUBERNETES = "Kubernetes"
    PLAY = "podman kube play"
    EDITOR = "devcontainer.json"


def gpu_notes(containers: Iterable[ContainerSpec], form: GpuFormat) -> tuple[str, ...]:
    """Return a line for each thing that readers of the format do not do."""
    asking = [container for container in containers if container.gpu]
    return tuple(
        dict.fromkeys(
            (*_of_the_format(asking, form), *(note for container in asking for note in _of_one(container, form)))
        )
    )


def _of_the_format(asking: list[ContainerSpec], form: GpuFormat) -> Iterator[str]:
    if not asking:
        return
    if form is GpuFormat.PODMAN:
        yield "GPUs: docker compose needs another file: --docker-compose"
    elif form is GpuFormat.DOCKER:
        yield "GPUs: podman-compose ignores them here, its file is that of --compose; Docker must have CDI enabled"
    elif form is GpuFormat.PLAY:
        yield "GPUs: podman 5.4 and later read these limits; older ones run it on the CPU, without a word"
    elif form is GpuFormat.KUBERNETES:
        yield "GPUs: nodes need NVIDIA's device plugin, with feature discovery for what is required of them"


def _of_one(container: ContainerSpec, form: GpuFormat) -> Iterator[str]:
    request = container.gpu
    assert request is not None  # noqa: S101 - only those that ask are given
    name = container.name
    if request.optional and form is not GpuFormat.EDITOR:
        yield f"{name}: does not start without its GPUs, although they are optional"
    if form is GpuFormat.KUBERNETES:
        yield from _of_kubernetes(container)
        return
    if form is GpuFormat.PLAY and request.share == "mps":
        yield f"{name}: the daemon of MPS is not in this file, without which programs take turns and have no limits"
    asked = {"free memory": request.memory, "compute capability": request.capability, "driver": request.driver}
    wishes = ", ".join(f"{what} {value}" for what, value in asked.items() if value)
    yield f"{name}: a start does not check who else has its GPUs{f', nor {wishes}' if wishes else ''}"
    if all(_BY_INDEX.fullmatch(device) for device in container.devices):
        devices = ", ".join(container.devices)
        yield f"{name}: {devices} may be another GPU there; `nox -s gpus` on that host lists UUIDs"


def _of_kubernetes(container: ContainerSpec) -> Iterator[str]:
    request, name = container.gpu, container.name
    assert request is not None  # noqa: S101
    if request.devices and not container.mig:
        yield f"{name}: gets {len(request.devices)} of any, a pod cannot name its GPUs ({', '.join(request.devices)})"
    if request.every:
        yield f"{name}: a pod cannot ask for all GPUs of a node; set the number in its limits"
    if request.memory:
        yield f"{name}: nodes are chosen by the memory that GPUs have ({request.memory}), not by what is free"
    if request.share == "mps":
        yield f"{name}: the daemon of MPS is that of the device plugin (sharing.mps), whose own limits are the most"
    if request.share != "exclusive":
        yield f"{name}: nvidia.com/gpu.shared is there where the device plugin shares with renameByDefault = true"
