"""A running container as podman describes it: how it was started, and where its layers lie. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildkit.audit.running_flags import parse_calls
from buildkit.audit.sighting import GivenFlags

_OVERLAY = ("overlay", "overlay2")


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedContainer:
    """A container by its description (``podman container inspect``, 4.3 to 5.4).

    ``image`` is the id of its image (64 digits), ``image_name`` how that was named, ``digest`` that of its manifest.
    ``runtime`` is the program that started it, by name or path, ``config`` the file of that one's configuration.
    ``layers`` are the folders of its root, the writable one first; empty where storage has none. ``networks`` are the
    names of those that it has joined.
    """

    id: str
    name: str
    pid: int
    image: str
    image_name: str
    digest: str
    labels: Mapping[str, str]
    exposed: tuple[str, ...]
    flags: GivenFlags
    runtime: str
    config: str
    layers: tuple[str, ...]
    networks: frozenset[str] = frozenset()


def parse_described(one: Mapping[str, Any]) -> DescribedContainer:
    """Read a description; what this podman does not say is empty."""
    network = one.get("NetworkSettings") or {}
    ports: Mapping[str, Any] = network.get("Ports") or {}
    return DescribedContainer(
        id=str(one["Id"]),
        name=str(one.get("Name") or ""),
        pid=int(one["State"]["Pid"]),
        image=str(one.get("Image") or "").removeprefix("sha256:"),
        image_name=str(one.get("ImageName") or ""),
        digest=str(one.get("ImageDigest") or ""),
        labels={str(key): str(value) for key, value in ((one.get("Config") or {}).get("Labels") or {}).items()},
        exposed=tuple(map(str, ports)),
        flags=_parse_flags(one, ports),
        runtime=str(one.get("OCIRuntime") or ""),
        config=str(one.get("OCIConfigPath") or ""),
        layers=tuple(_find_layers(one.get("GraphDriver") or {})),
        networks=frozenset(map(str, network.get("Networks") or ())),
    )


def _parse_flags(one: Mapping[str, Any], ports: Mapping[str, Any]) -> GivenFlags:
    host = one.get("HostConfig") or {}
    published = (
        (str(port), str(place.get("HostIp") or "")) for port, places in ports.items() for place in places or ()
    )
    binds = (mount for mount in one.get("Mounts") or () if mount.get("Type") == "bind")
    return GivenFlags(
        privileged=bool(host.get("Privileged")),
        published=tuple(published),
        devices=tuple(str(device.get("PathOnHost") or "") for device in host.get("Devices") or ()),
        sources=tuple((str(mount.get("Source") or ""), str(mount.get("Destination") or "")) for mount in binds),
    )


def _find_layers(driver: Mapping[str, Any]) -> list[str]:
    data = driver.get("Data") or {}
    upper, lower = str(data.get("UpperDir") or ""), str(data.get("LowerDir") or "")
    if driver.get("Name") not in _OVERLAY or not (upper and lower):
        return []
    return [upper, *lower.split(":")]


def parse_runtime_calls(config: str) -> frozenset[tuple[str, str]]:
    """Return the system calls that an OCI runtime configuration lets a container make; empty without a filter.

    The kernel says whether there is one. Raises ValueError if it is none.
    """
    try:
        return parse_calls((json.loads(config).get("linux") or {}).get("seccomp") or {})
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("not an OCI runtime configuration") from error
