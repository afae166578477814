"""Which GPUs running containers have, from what podman tells of them. Pure.

podman keeps the request only as it was typed (``Config.CreateCommand``). Containers that are started here carry labels,
which also say how a device is shared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from buildkit.gpu.cdi_spec import NVIDIA
from buildkit.gpu.eligibility import HeldDevice
from buildkit.gpu.host_devices import GpuHost

_PREFIX = "org.xoe.buildkit"
DEVICES = f"{_PREFIX}.gpus"  # a container's label: UUIDs, separated by spaces
SHARE = f"{_PREFIX}.gpu-share"
_PROJECT, _ENVIRONMENT = f"{_PREFIX}.project", f"{_PREFIX}.environment"
_NODE = re.compile(r"/dev/nvidia(\d+)")


def parse_holders(inspected: Iterable[Mapping[str, Any]], host: GpuHost) -> tuple[HeldDevice, ...]:
    """Return what containers have, given their descriptions by ``podman container inspect``."""
    return tuple(held for one in inspected for held in _holds(one, host))


def holder_labels(uuids: Iterable[str], share: str) -> tuple[tuple[str, str], ...]:
    """Return the labels of a container that gets devices."""
    return ((DEVICES, " ".join(uuids)), (SHARE, share))


def _holds(one: Mapping[str, Any], host: GpuHost) -> Iterator[HeldDevice]:
    name = str(one.get("Name") or "")
    labels = (one.get("Config") or {}).get("Labels") or {}
    if DEVICES in labels:
        environment = f"{labels[_PROJECT]}-{labels[_ENVIRONMENT]}" if {_PROJECT, _ENVIRONMENT} <= labels.keys() else ""
        for uuid in labels[DEVICES].split():
            yield HeldDevice(uuid=uuid, container=name, share=labels.get(SHARE, ""), environment=environment)
        return
    words = tuple(_requested(one)) or tuple(_nodes(one))
    for uuid in sorted({device.uuid for word in words for device in host.find(word)}):
        yield HeldDevice(uuid=uuid, container=name)


def _requested(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield the devices that the command asked for: UUIDs, indices or ``all``."""
    command = [str(word) for word in (one.get("Config") or {}).get("CreateCommand") or ()]
    image = _short(str(one.get("ImageName") or ""))
    for position, word in enumerate(command):
        if position > 1 and image and not word.startswith("-") and _short(word) == image:
            return  # what follows are words of the program
        option, separator, value = word.partition("=")
        if not separator and position + 1 < len(command):
            value = command[position + 1]
        if option == "--device" and value.startswith(f"{NVIDIA}="):
            yield value.removeprefix(f"{NVIDIA}=")
        elif option == "--device" and (node := _NODE.match(value)):
            yield node[1]
        elif option == "--gpus":
            yield from value.removeprefix("device=").strip('"').split(",")


def _nodes(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield the indices of GPUs whose device nodes the container has, whoever asked for them."""
    for device in (one.get("HostConfig") or {}).get("Devices") or ():
        paths = (str(device.get(key) or "") for key in ("PathOnHost", "PathInContainer"))
        if node := next(filter(None, map(_NODE.fullmatch, paths)), None):
            yield node[1]


def _short(image: str) -> str:
    """Return the last part of an image's name, without tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]
