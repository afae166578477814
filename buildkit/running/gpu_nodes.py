"""GPUs as Kubernetes asks for them: limits of a container, and the nodes that will do. Pure.

Labels and resources are those of NVIDIA's device plugin and its feature discovery
(https://github.com/NVIDIA/k8s-device-plugin).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

from buildkit.declare.gpu_request import GpuRequest, parse_size
from buildkit.running.flags import ContainerSpec

_VENDOR = "nvidia.com"
_CAPABILITY = tuple(f"{_VENDOR}/gpu.compute.{part}" for part in ("major", "minor"))
_DRIVER = tuple(f"{_VENDOR}/cuda.driver.{part}" for part in ("major", "minor", "rev"))
_SHARING = {"mps": "mps", "time-slice": "time-slicing"}
_MIB = 1 << 20
Match = dict[str, Any]  # one of `matchExpressions`


def gpu_limits(container: ContainerSpec) -> dict[str, int]:
    """Return resources with their numbers."""
    request = container.gpu
    if request is None:
        return {}
    if container.mig:
        return {f"{_VENDOR}/mig-{profile}": number for profile, number in sorted(Counter(container.mig).items())}
    number = len(container.devices) if request.every else len(request.devices) or request.count
    return {f"{_VENDOR}/gpu{'' if request.share == 'exclusive' else '.shared'}": max(number, 1)}


def node_affinity(request: GpuRequest | None) -> dict[str, Any]:
    """Return a pod's ``affinity`` for nodes that fulfil a request; empty without one."""
    if request is None:
        return {}
    sharing = f"{_VENDOR}/gpu.sharing-strategy"
    if request.share == "exclusive":  # also where nothing labels nodes
        common = [{"key": sharing, "operator": "NotIn", "values": sorted(_SHARING.values())}]
    else:
        common = [{"key": sharing, "operator": "In", "values": [_SHARING[request.share]]}]
    if request.memory:
        common.append(_more(f"{_VENDOR}/gpu.memory", parse_size(request.memory) // _MIB - 1))
    ways = list(_ranges(request))
    terms = [{"matchExpressions": [*common, *(one for way in choice for one in way)]} for choice in product(*ways)]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _ranges(request: GpuRequest) -> Iterator[list[list[Match]]]:
    """Yield for each bound the ways to keep it; labels hold single numbers, so 8.6 is `> 8`, or `8` and `> 5`."""
    if request.capability:
        yield list(_bound(_CAPABILITY, ">=", request.capability))
    for sign, version in re.findall(r"(>=|<)([\d.]+)", request.driver):
        yield list(_bound(_DRIVER, sign, version))


def _bound(labels: tuple[str, ...], sign: str, version: str) -> Iterator[list[Match]]:
    numbers = [int(part) for part in version.split(".")][: len(labels)]
    equal: list[Match] = []
    for position, (label, number) in enumerate(zip(labels, numbers, strict=False)):
        last = position == len(numbers) - 1
        if sign == ">=":
            yield [*equal, _more(label, number - 1 if last else number)]
        else:
            yield [*equal, _less(label, number)]
        equal = [*equal, _more(label, number - 1), _less(label, number + 1)]


def _more(label: str, number: int) -> Match:
    return {"key": label, "operator": "Gt", "values": [str(number)]}


def _less(label: str, number: int) -> Match:
    return {"key": label, "operator": "Lt", "values": [str(number)]}
