"""The networks of an environment: made if they are missing, checked if they are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from buildkit.errors import BuildError
from buildkit.running.commands import service_network_argv
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import NETWORK_OPTION
from buildkit.running.host import PodmanHost
from buildkit.running.mounts import ServiceNetwork
from buildkit.services.labels import environment_labels
from buildkit.tools.podman import find_network
from buildkit.tools.podman_objects import create_network


def ensure_networks(environment: RunningEnvironment, host: PodmanHost, making: Callable[[str], None]) -> PodmanHost:
    """Make the networks that are missing; return the host, which then knows whether they are closed.

    ``making`` is called with the name of each network before it is made. Raises ToolError, and BuildError for a network
    of the name that has other settings.
    """
    closes = host.may_close
    wanted = [(network, environment) for network in environment.networks]
    if environment.joined:
        wanted.append((environment.joined.network, environment.joined))
    for network, owner in wanted:
        if (known := find_network(network.name)) is not None:
            _check_network(network, known, closes=closes)
            continue
        making(network.name)
        create_network(service_network_argv(network, environment_labels(owner), closes=closes))
    return replace(host, closes=closes)


def _check_network(network: ServiceNetwork, known: Mapping[str, Any], *, closes: bool) -> None:
    subnets = [str(one.get("subnet")) for one in known.get("subnets") or ()]
    option, _, value = NETWORK_OPTION.partition("=")
    has = str((known.get("options") or {}).get(option)) in (value, "true")
    if (network.subnet and network.subnet not in subnets) or (network.closed and closes and not has):
        raise BuildError(
            f"the network {network.name} already exists with other settings ({', '.join(subnets)})",
            hint=f"end what uses it, then: podman network rm {network.name}",
        )
