"""The running containers of this user, as podman describes them."""

from __future__ import annotations

import json
from typing import Any

from buildkit.monitor.containers import WatchedContainer, parse_containers
from buildkit.tools.process import Command, run

_ANY = tuple(range(256))


def find_running() -> tuple[WatchedContainer, ...]:
    """Return the running containers. Raises MissingTool or ToolError.

    It costs a quarter of a second: podman is asked twice.
    """
    ids = run(Command(argv=("podman", "ps", "--quiet", "--no-trunc"), what="listing containers")).text.split()
    if not ids:
        return ()
    done = run(Command(argv=("podman", "container", "inspect", *ids), accept=_ANY))  # one may have ended
    described: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return parse_containers(described)
