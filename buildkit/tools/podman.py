"""podman: starts containers of images in local storage, and says what became of them."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError, ToolError
from buildkit.running.flags import NETWORK_OPTION
from buildkit.running.host import Host, parse_host
from buildkit.tools.buildah import own_limits
from buildkit.tools.process import Command, CommandResult, find_tool, run
from buildkit.tools.storage import find_config

FAILED = 125  # podman's own exit code, where it could not start the container
HINT = "nox -s doctor says what containers lack on this host"
_PODMANS_LIMIT = 1048576
_ANY = tuple(range(256))
_NO_WAY = ("unsupported network option", "unsupported bridge network option", "unknown flag")


def probe_host() -> Host:
    """What podman says of this host. Raises MissingTool or ToolError."""
    told = run(Command(argv=("podman", "info", "--format", "json"), what="asking podman about this host"))
    host = parse_host(json.loads(told.stdout), systemd=Path("/run/systemd/system").is_dir())
    return replace(host, options=_own_limits())


def _own_limits() -> tuple[str, ...]:
    """Limits of open files and processes for a container of root's, where the higher ones that podman asks for fail."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() != 0 or files == resource.RLIM_INFINITY or files >= _PODMANS_LIMIT or not find_tool("prlimit"):
        return ()
    tried = run(Command(argv=("prlimit", f"--nofile={files}:{files + 1}", "true"), accept=(0, 1)))
    return own_limits() if tried.code else ()


def find_image_config(ref: str) -> dict[str, Any] | None:
    """The config of an image in local storage, with a HEALTHCHECK that podman itself passes over; None for no image.

    Raises MissingTool or ToolError.
    """
    asked = Command(argv=("podman", "image", "inspect", "--format", "{{.Id}}", ref), accept=(0, 1, FAILED))
    finished = run(asked)
    return find_config(finished.text.removeprefix("sha256:")) if finished.code == 0 else None


def pull(ref: str) -> None:
    """Fetch an image into local storage. Raises ToolError."""
    run(Command(argv=("podman", "pull", "--quiet", "--", ref), what=f"pulling {ref}"))


def ensure_network(argv: Sequence[str]) -> bool:
    """Make a network by ``argv``, unless it is there; False where this podman knows no network without a way out.

    Raises ToolError, and BuildError where one with its name has a way out.
    """
    name = argv[-1]
    if (known := _find_network(name)) is not None:
        option, _, value = NETWORK_OPTION.partition("=")
        if known.get("dns_enabled") or str((known.get("options") or {}).get(option)) not in (value, "true"):
            hint = f"podman network rm {name}, or name the container otherwise"
            raise BuildError(f"the network {name} is there already and has a way out", hint=hint)
        return True
    finished = run(Command(argv=tuple(argv), accept=_ANY))
    if finished.code == 0:
        return True
    said = finished.stderr.decode("utf-8", "replace").strip()
    if any(words in said for words in _NO_WAY):
        return False
    raise ToolError(f"making the network {name} failed", hint=HINT, output=said)


def _find_network(name: str) -> dict[str, Any] | None:
    finished = run(Command(argv=("podman", "network", "inspect", name), accept=(0, 1, FAILED)))
    if finished.code != 0:
        return None
    found: list[dict[str, Any]] = json.loads(finished.stdout)
    return found[0]


def remove_network(name: str) -> None:
    """Remove a network; one that is used, or is not there, is left alone."""
    run(Command(argv=("podman", "network", "rm", "--", name), accept=_ANY, is_cleanup=True))


def start_detached(argv: Sequence[str]) -> None:
    """Start a container that goes on by itself. Raises ToolError."""
    finished = run(Command(argv=tuple(argv), accept=_ANY))
    if finished.code != 0:
        said = finished.stderr.decode("utf-8", "replace").strip()
        raise ToolError(f"podman could not start {_name(argv)}", hint=explain(said), output=said)


def explain(said: str) -> str:
    """What to do where podman did not start a container, by what it said."""
    if "is already in use" in said:
        return "podman rm --force NAME removes what has the name; --name gives the new one another"
    if "address already in use" in said or "port is already allocated" in said:
        return "--port N publishes another port, --port 0 any that is free"
    return HINT


def inspect_container(name: str) -> dict[str, Any]:
    """What podman knows of a container. Raises ToolError."""
    finished = run(Command(argv=("podman", "container", "inspect", name), what=f"looking {name} up"))
    found: list[dict[str, Any]] = json.loads(finished.stdout)
    return found[0]


def execute(name: str, argv: Sequence[str]) -> CommandResult:
    """Run a command in a container, as its user; whatever it comes to. Raises MissingTool."""
    return run(Command(argv=("podman", "exec", "--", name, *argv), accept=_ANY))


def check_health(name: str) -> CommandResult:
    """Run the container's health check now: code 0 for well, 1 for unwell, 125 where it has none."""
    return run(Command(argv=("podman", "healthcheck", "run", name), accept=_ANY))


def stop(name: str, seconds: int) -> CommandResult:
    """Ask a container to end, and kill it after so many seconds."""
    return run(Command(argv=("podman", "stop", "--time", str(seconds), name), accept=_ANY, is_cleanup=True))


def remove(name: str) -> None:
    """Remove a container, a running one too; one that is not there is left alone."""
    run(Command(argv=("podman", "rm", "--force", "--time", "0", name), accept=_ANY, is_cleanup=True))


def read_log(name: str) -> str:
    """What a container has said so far, both streams."""
    finished = run(Command(argv=("podman", "logs", "--tail", "50", name), accept=_ANY, is_cleanup=True))
    return (finished.stdout + finished.stderr).decode("utf-8", "replace").strip()


def _name(argv: Sequence[str]) -> str:
    return next((word.partition("=")[2] for word in argv if word.startswith("--name=")), "a container")


def list_pids(name: str) -> tuple[int, ...]:
    """The processes of a container as the host numbers them. Raises ToolError."""
    finished = run(Command(argv=("podman", "top", name, "hpid"), what=f"listing the processes of {name}"))
    return tuple(int(line) for line in finished.text.splitlines()[1:] if line.strip().isdecimal())


def read_proc(path: str, *, rootless: bool) -> str:
    """A file below /proc, empty where it is gone; an ordinary user reads it in podman's user namespace."""
    if rootless:
        return run(Command(argv=("podman", "unshare", "cat", path), accept=_ANY)).stdout.decode(
            "utf-8", "surrogateescape"
        )
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def read_link(path: str, *, rootless: bool) -> str:
    """A link below /proc, likewise."""
    if rootless:
        return run(Command(argv=("podman", "unshare", "readlink", path), accept=_ANY)).text
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def signal_pids(pids: Sequence[int], number: int, *, rootless: bool) -> None:
    """Send a signal to processes of a container; those that are gone are left alone."""
    before = ("podman", "unshare") if rootless else ()
    run(Command(argv=(*before, "kill", f"-{number}", *map(str, pids)), accept=_ANY, is_cleanup=True))
