"""Running containers, from podman's descriptions of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PROJECT = "org.xoe.buildkit.project"  # a container's label


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedContainer:
    """A running container; ``image`` is the id of its image (64 digits), ``image_name`` how it was named.

    ``digest`` is that of the image's manifest. ``health`` is podman's word, empty without a check. ``own_network`` is
    whether its interfaces are not those of the host.
    """

    id: str
    name: str
    pid: int
    image: str
    image_name: str
    digest: str = ""
    health: str = ""
    restarts: int = 0
    project: str = ""
    own_network: bool = True


def parse_containers(described: Iterable[Mapping[str, Any]]) -> tuple[WatchedContainer, ...]:
    """Return the running containers among descriptions by ``podman container inspect``, by name."""
    found = [_parse(one) for one in described if (one.get("State") or {}).get("Pid")]
    return tuple(sorted(found, key=lambda one: (one.name, one.id)))


def _parse(one: Mapping[str, Any]) -> WatchedContainer:
    state = one["State"]
    health = state.get("Health") or state.get("Healthcheck") or {}  # podman 4 and 5
    labels = (one.get("Config") or {}).get("Labels") or {}
    mode = str((one.get("HostConfig") or {}).get("NetworkMode") or "")
    return WatchedContainer(
        id=str(one["Id"]),
        name=str(one.get("Name") or ""),
        pid=int(state["Pid"]),
        image=str(one.get("Image") or "").removeprefix("sha256:"),
        image_name=str(one.get("ImageName") or ""),
        digest=str(one.get("ImageDigest") or ""),
        health=str(health.get("Status") or ""),
        restarts=int(one.get("RestartCount") or 0),
        project=str(labels.get(PROJECT) or ""),
        own_network=mode != "host",
    )


def select_project(
    containers: Iterable[WatchedContainer], project: str, images: Iterable[str]
) -> tuple[WatchedContainer, ...]:
    """Return the containers of a project: labelled with it, or of one of its images."""
    names = frozenset(images)
    return tuple(one for one in containers if one.project == project or (not one.project and one.image_name in names))
