"""Other ways to get a saved file into a container, in turn: each serves an image with the application's folder."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.tools import composed, podman
from buildkit.tools.process import Command, find_tool, run, start

_NAME = "buildkit-bench-dev"
_ANY = tuple(range(256))
_STALL = 60.0  # seconds without a sign of life until another way counts as failed


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerApp:
    """An image, its folder ``target`` that ``source`` holds on this host, its port, and a command that reloads.

    ``folder`` is for files of the peers; ``project`` and ``stage`` make the image where another engine needs it.
    """

    folder: Path
    project: Path
    stage: str
    image: str
    source: Path
    target: str
    port: str
    server: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DevPeer:
    """A way by its name; ``serving`` runs it for a block, and yields what has to be called after each save."""

    name: str
    serving: Callable[[PeerApp], Iterator[Callable[[], None]]]


def find_dev_peers() -> tuple[DevPeer, ...]:
    """Return the ways that this host has the programs for."""
    found = [
        DevPeer(name="server that reloads, mounted folder", serving=partial(_serve, reloads=True)),
        DevPeer(name="podman restart", serving=partial(_serve, reloads=False)),
    ]
    if find_tool("podman-compose"):
        found.append(DevPeer(name="podman-compose restart", serving=_compose))
    if (
        find_tool("docker")
        and find_tool("busybox")
        and run(Command(argv=("docker", "compose", "ls"), accept=_ANY)).code == 0
    ):
        found.append(DevPeer(name="docker compose watch, server that reloads", serving=_watch))
    return tuple(found)


def _serve(app: PeerApp, *, reloads: bool) -> Iterator[Callable[[], None]]:
    options = ("--detach", f"--name={_NAME}", f"--publish=127.0.0.1:{app.port}:{app.port}")
    mount = f"--volume={app.source}:{app.target}:ro"
    command = app.server if reloads else ()
    podman.start_detached(("podman", "run", *options, mount, *podman.probe_host().options, app.image, *command))
    try:
        yield (lambda: None) if reloads else partial(composed.restart, _NAME, _STALL)
    finally:
        podman.remove(_NAME)


def _compose(app: PeerApp) -> Iterator[Callable[[], None]]:
    service = {
        "image": app.image,
        "container_name": _NAME,
        "ports": [f"127.0.0.1:{app.port}:{app.port}"],
        "volumes": [f"{app.source}:{app.target}:ro"],
    }
    file = _write(app, {"services": {"app": service}})
    own = " ".join(podman.probe_host().options)
    compose = ("podman-compose", "--podman-run-args", own, "--file", file)
    run(Command(argv=(*compose, "up", "--detach"), cwd=app.folder, stall_seconds=_STALL))
    argv = ("podman-compose", "--file", file, "restart", "--timeout=10", "app")
    restart = Command(argv=argv, cwd=app.folder, stall_seconds=_STALL)
    try:
        yield lambda: _drop(run(restart))
    finally:
        run(Command(argv=("podman-compose", "--file", file, "down"), cwd=app.folder, is_cleanup=True, accept=_ANY))


def _watch(app: PeerApp) -> Iterator[Callable[[], None]]:
    """docker's engine copies saved files into the container, whose server reloads.

    It does so by a tar of the image, which a small image lacks: busybox is added, and files are written as root.
    """
    argv = (sys.executable, "-P", "-m", "buildkit", "build", app.stage, "--to", "docker")
    run(Command(argv=argv, cwd=app.project, what="giving docker the image"))
    rule = {"action": "sync", "path": str(app.source), "target": app.target}
    context, busybox = app.folder / "docker", find_tool("busybox")
    context.mkdir()
    shutil.copy(str(busybox), context / "busybox")
    lines = (f"FROM {app.image}", "USER 0", *(f"COPY busybox /usr/bin/{name}" for name in ("tar", "rm")), "")
    (context / "Dockerfile").write_text("\n".join(lines), "utf-8")
    service = {
        "build": {"context": str(context)},
        "image": _NAME,
        "command": list(app.server),
        "ports": [f"127.0.0.1:{app.port}:{app.port}"],
        "develop": {"watch": [rule]},
    }
    file = _write(app, {"name": _NAME, "services": {"app": service}})
    compose = ("docker", "compose", "--file", file)
    run(Command(argv=(*compose, "up", "--detach", "--build"), cwd=app.folder, what="docker compose up"))
    try:
        with start(Command(argv=(*compose, "watch", "--no-up"), cwd=app.folder)) as child:
            time.sleep(2.0)  # it says that it watches only to terminals
            if child.poll() is not None:
                text = child.stderr.read().decode("utf-8", "replace") if child.stderr else ""
                raise BuildError("docker compose watch has ended", hint="docker compose version: 2.26?", output=text)
            yield lambda: None
    finally:
        down = (*compose, "down", "--rmi=local", "--timeout=5")
        run(Command(argv=down, cwd=app.folder, is_cleanup=True, accept=_ANY))


def _write(app: PeerApp, document: dict[str, object]) -> str:
    path = app.folder / "compose.yaml"
    path.write_text(json.dumps(document), "utf-8")  # JSON is YAML
    return str(path)


def _drop(_result: object) -> None:
    """Drop a result."""
