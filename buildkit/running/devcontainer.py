"""Render a service as a development container (the format of https://containers.dev). Pure.

An editor installs itself into the container and downloads extensions, so the image is not read-only and other hosts can
be reached. Capabilities, privileges and processes are limited as for the service; so are names, secrets and volumes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from buildkit.declare.target import Target
from buildkit.errors import DefinitionError
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import SECRET_FOLDER, ContainerSpec
from buildkit.running.mounts import SECRETS

FILE = ".devcontainer/devcontainer.json"
DEBUGGER_PORT = 5678
_EXTENSIONS = ("ms-python.python", "ms-python.debugpy", "charliermarsh.ruff")
_DEFAULT_NETWORK = "podman"  # podman's own, which has a route to other hosts
_ORDINARY = (1000, 1000)


def render_devcontainer(environment: RunningEnvironment, name: str, target: Target) -> str:
    """Return devcontainer.json for work in the container of a service, beside the other services of its environment.

    ``target`` tells where the images' Python is. Raises DefinitionError if there is no such service, or its
    name is that of a proxy.
    """
    service = environment.get(name)
    if service.proxied:
        replica = service.proxied.replica(service.proxied.versions[0], 1)
        hint = f"nox -s devcontainer -- {environment.name} {replica}"
        raise DefinitionError(f"{name} is the proxy of its replicas: there is nothing to work on in it", hint=hint)
    container = service.container
    folder = f"/workspaces/{environment.project}"
    others = ("nox", "-s", "up", "--", environment.name, "--except", name)
    document: dict[str, Any] = {
        "name": f"{environment.project} {environment.name}",
        "image": container.image,
        "initializeCommand": list(others),
        "workspaceFolder": folder,
        "workspaceMount": f"source=${{localWorkspaceFolder}},target={folder},type=bind",
        "overrideCommand": True,
        "containerUser": container.user,
        "remoteUser": container.user,
        "updateRemoteUserUID": False,
        "containerEnv": dict(container.env),
        "hostRequirements": _requirements(container),
        "runArgs": list(run_options(container)),
        "forwardPorts": sorted({port.number for port in container.ports} | {DEBUGGER_PORT}),
        "portsAttributes": {str(DEBUGGER_PORT): {"label": "debugger", "onAutoForward": "ignore"}},
        "customizations": {"vscode": _editor(container, folder, target)},
    }
    return json.dumps({key: value for key, value in document.items() if value not in ("", {}, [])}, indent=2) + "\n"


def _requirements(container: ContainerSpec) -> dict[str, Any]:
    """Return what the host must have; the devices themselves are in ``runArgs``."""
    if container.gpu is None:
        return {}
    if container.gpu.optional:
        return {"gpu": "optional"}
    memory = container.gpu.memory
    return {"gpu": {"memory": f"{memory}b" if memory[-1] in "kmg" else memory} if memory else True}


def run_options(container: ContainerSpec) -> Iterator[str]:
    """Yield options of ``podman run``; user ids are mapped so that files of the repository belong to the developer."""
    uid, gid = container.owner or _ORDINARY
    yield f"--userns=keep-id:uid={uid},gid={gid}"
    yield "--cap-drop=all"
    yield "--security-opt=no-new-privileges"
    yield f"--pids-limit={max(container.running.pids, 4096)}"
    if container.networks:
        yield f"--network={container.networks[0].name}:ip={container.address},mac={container.mac}"
        yield f"--network={_DEFAULT_NETWORK}"
        yield f"--hostname={container.hostname}"
        for name, address in container.networks[0].hosts:
            if name != container.hostname:
                yield f"--add-host={name}:{address}"
    for device in container.given_devices:
        yield f"--device={device}"
    for mount in container.mounts:
        yield f"--volume={mount.text}"
    if container.models:
        yield f"--mount={container.models.text}"
    if container.secret_files:
        yield f"--tmpfs={SECRETS}:{SECRET_FOLDER}"
    for secret in container.secrets:
        yield f"--secret={secret.text}"


def _editor(container: ContainerSpec, folder: str, target: Target) -> dict[str, Any]:
    attach = {
        "name": f"attach to {container.hostname}",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": "127.0.0.1", "port": DEBUGGER_PORT},
        "pathMappings": [{"localRoot": folder, "remoteRoot": folder}],
    }
    settings = {
        "python.defaultInterpreterPath": f"{target.prefix}/bin/python",
        "python.testing.pytestEnabled": True,
        "launch": {"version": "0.2.0", "configurations": [attach]},
    }
    return {"extensions": list(_EXTENSIONS), "settings": settings}
