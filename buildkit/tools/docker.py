"""docker: look at images of a Docker engine, and load some into it. `DOCKER_HOST` and contexts say which engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, BinaryIO

from buildkit.digest import DiffId
from buildkit.errors import ToolError
from buildkit.tools.process import Command, converse, run

_MISSING = "no such"
_HINT = "is the engine running, and may you use it? docker info tells; DOCKER_HOST names another"


def find_image(ref: str) -> dict[str, Any] | None:
    """Return what the engine says of an image, None if it has none of that name.

    Raises MissingTool, and ToolError if no engine answers.
    """
    argv = ("docker", "image", "inspect", "--", ref)
    finished = run(Command(argv=argv, accept=(0, 1), what=f"looking {ref} up in the Docker engine"))
    if finished.code == 0:
        found: list[dict[str, Any]] = json.loads(finished.stdout)
        return found[0]
    said = finished.stderr.decode("utf-8", "replace").strip()
    if _MISSING not in said.lower():
        raise ToolError(f"the Docker engine cannot be asked for {ref}", hint=_HINT, output=said)
    return None


def list_layers() -> tuple[tuple[DiffId, ...], ...]:
    """Return the layers of every image of the engine, the lowest first. Raises MissingTool or ToolError."""
    listed = run(Command(argv=("docker", "image", "ls", "--quiet", "--no-trunc"), what="listing the engine's images"))
    ids = tuple(dict.fromkeys(listed.text.split()))
    if not ids:
        return ()
    argv = ("docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", "--", *ids)
    answer = run(Command(argv=argv, accept=(0, 1), what="looking at the engine's images")).text  # one may be gone now
    return tuple(tuple(map(DiffId.parse, json.loads(line) or ())) for line in answer.splitlines())


def load_image(ref: str, write: Callable[[BinaryIO], None]) -> None:
    """Load the archive that ``write`` writes. Raises MissingTool and ToolError."""
    with converse(Command(argv=("docker", "load", "--quiet"), what=f"loading {ref} into the Docker engine")) as (to, _):
        write(to)
