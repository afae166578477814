"""buildah build: an image from a Containerfile, on images that local storage has. Nothing is ever pulled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import ToolError
from buildkit.hostile_json import JsonValue, MalformedError, parse_json
from buildkit.tools.buildah import own_limits
from buildkit.tools.isolation import Isolation
from buildkit.tools.process import Command, run

_MOST = 16 << 20  # bytes of a description


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerfileBuild:
    """What to build: the file, the folder of its context, and a folder for temporary files.

    ``secrets`` is the folder that has a file for each of the secrets' names. ``arch`` (OCI's name) is that of another
    processor than this machine's: buildah's own arguments, such as TARGETARCH, follow it.
    """

    file: Path
    context: Path
    temporary: Path
    target: str = ""
    args: tuple[tuple[str, str], ...] = ()
    network: bool = False
    arch: str = ""
    secrets: Mapping[str, Path]


def build_image(request: ContainerfileBuild, ref: str, isolation: Isolation) -> None:
    """Build ``ref``: the stages' own layers become one layer each, with all times fixed. Raises ToolError."""
    sources = (request.context, *request.secrets.values())
    nothing = request.temporary / "ignore"
    nothing.touch()  # the context is laid out without what is ignored
    argv = (
        *isolation.prefix(sources, network=request.network),
        "buildah", "build",
        *isolation.options(network=request.network),
        *own_limits(),
        "--pull=never",
        "--layers=false",  # a layer of its own for each instruction would be compared with all of storage
        "--format", "docker",  # the OCI format has no place for HEALTHCHECK
        "--timestamp", "0",  # the same bytes whenever it runs
        "--identity-label=false",  # buildah's version must not reach the image
        "--ignorefile", str(nothing),
        *(part for name, value in request.args for part in ("--build-arg", f"{name}={value}")),
        *(part for name, path in request.secrets.items() for part in ("--secret", f"id={name},src={path}")),
        *(("--platform", f"linux/{request.arch}") if request.arch else ()),
        *(("--target", request.target) if request.target else ()),
        "--file", str(request.file),
        "--tag", ref,
        "--", str(request.context),
    )  # fmt: skip
    run(Command(argv=argv, env={"TMPDIR": str(request.temporary)}, what=f"building {ref}", writes=(request.temporary,)))


def find_version() -> tuple[int, ...]:
    """Return buildah's version as numbers (``(1, 28, 2)``), empty if it says none. Raises ToolError, MissingTool."""
    found = re.search(r"\d+(?:\.\d+)+", run(Command(argv=("buildah", "--version"))).text)
    return tuple(map(int, found[0].split("."))) if found else ()


def read_config(ref: str) -> JsonValue | None:
    """Return the run config of an image in local storage, health check included. Raises ToolError."""
    found = run(Command(argv=("buildah", "inspect", "--type", "image", "--", ref), what=f"inspecting {ref}")).stdout
    try:
        return parse_json(found, limit=_MOST, what=f"the description of {ref}").member("Docker").find("config")
    except MalformedError as error:
        raise ToolError(f"{ref}: {error}") from error
