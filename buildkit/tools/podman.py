"""podman: start, inspect and stop containers of images in local storage."""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError, ToolError
from buildkit.running.flags import NETWORK_OPTION
from buildkit.running.host import PodmanHost, parse_host
from buildkit.tools.buildah import own_limits
from buildkit.tools.process import Command, CommandResult, find_tool, run
from buildkit.tools.storage import find_config

FAILED = 125  # podman's own exit code if it could not start the container
HINT = "nox -s doctor reports what containers lack on this host"
_PODMANS_LIMIT = 1048576
_ANY = tuple(range(256))
_KEPT_ADDRESS = re.compile(r"requested IP address ([0-9.]+) is not available in range set")
_UNSUPPORTED_NETWORK = ("unsupported network option", "unsupported bridge network option", "unknown flag")


def probe_host() -> PodmanHost:
    """Return podman's facts about this host. Raises MissingTool or ToolError."""
    result = run(Command(argv=("podman", "info", "--format", "json"), what="asking podman about this host"))
    host = parse_host(json.loads(result.stdout), systemd=Path("/run/systemd/system").is_dir())
    return replace(host, options=_own_limits())


def _own_limits() -> tuple[str, ...]:
    """Return limits of open files and processes for root's containers, if podman's higher ones would fail."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() != 0 or files == resource.RLIM_INFINITY or files >= _PODMANS_LIMIT or not find_tool("prlimit"):
        return ()
    probe = run(Command(argv=("prlimit", f"--nofile={files}:{files + 1}", "true"), accept=(0, 1)))
    return own_limits() if probe.code else ()


def find_image_config(ref: str) -> dict[str, Any] | None:
    """Return the config of an image in local storage, with the HEALTHCHECK that podman omits; None if it is missing.

    Raises MissingTool or ToolError.
    """
    command = Command(argv=("podman", "image", "inspect", "--format", "{{.Id}}", ref), accept=(0, 1, FAILED))
    finished = run(command)
    return find_config(finished.text.removeprefix("sha256:")) if finished.code == 0 else None


def find_version() -> tuple[int, ...]:
    """Return podman's version (``(5, 4, 2)``), empty if it says none. Raises MissingTool."""
    found = re.search(r"[0-9]+(?:[.][0-9]+)+", run(Command(argv=("podman", "--version"))).text)
    return tuple(map(int, found[0].split("."))) if found else ()


def pull(ref: str) -> None:
    """Fetch an image into local storage. Raises ToolError."""
    run(Command(argv=("podman", "pull", "--quiet", "--", ref), what=f"pulling {ref}"))


def ensure_network(argv: Sequence[str]) -> bool:
    """Make an internal network by ``argv`` unless it exists; False if this podman cannot make an internal one.

    Raises ToolError, and BuildError if a network of that name allows outgoing connections.
    """
    name = argv[-1]
    if (known := find_network(name)) is not None:
        option, _, value = NETWORK_OPTION.partition("=")
        if known.get("dns_enabled") or str((known.get("options") or {}).get(option)) not in (value, "true"):
            hint = f"podman network rm {name}, or give the container another name"
            raise BuildError(f"the network {name} already exists and allows outgoing connections", hint=hint)
        return True
    finished = run(Command(argv=tuple(argv), accept=_ANY))
    if finished.code == 0:
        return True
    message = finished.stderr.decode("utf-8", "replace").strip()
    if any(words in message for words in _UNSUPPORTED_NETWORK):
        return False
    raise ToolError(f"making the network {name} failed", hint=HINT, output=message)


def find_network(name: str) -> dict[str, Any] | None:
    """Return podman's description of a network, None if there is none."""
    finished = run(Command(argv=("podman", "network", "inspect", name), accept=(0, 1, FAILED)))
    if finished.code != 0:
        return None
    found: list[dict[str, Any]] = json.loads(finished.stdout)
    return found[0]


def remove_network(name: str) -> None:
    """Remove a network, unless it is in use or missing."""
    run(Command(argv=("podman", "network", "rm", "--", name), accept=_ANY, is_cleanup=True))


def start_detached(argv: Sequence[str]) -> None:
    """Start a container in the background. Raises ToolError."""
    finished = run(
        Command(argv=tuple(argv), accept=_ANY, is_whole=True)
    )  # CNI keeps an address that a killed podman had
    if finished.code != 0:
        message = finished.stderr.decode("utf-8", "replace").strip()
        raise ToolError(f"podman could not start {name_of(argv)}", hint=find_hint(message), output=message)


def find_hint(message: str) -> str:
    """Return the hint for podman's message about a container that did not start."""
    if "is already in use" in message:
        return "podman rm --force NAME removes what has the name; --name gives the new one another"
    if "address already in use" in message or "port is already allocated" in message:
        return "--port N publishes another port, --port 0 any that is free"
    if kept := _KEPT_ADDRESS.search(message):
        inside = "podman unshare --rootless-netns " if os.geteuid() else ""
        mend = f"{inside}find /var/lib/cni/networks -name {kept[1]} -delete"
        return f"podman keeps the address of a container that it could not start: {mend}"
    if "error setting rlimit" in message:
        return "this host refuses podman's limits: nox -s doctor shows those for default_ulimits in containers.conf"
    if "unable to execute nft" in message:
        return "podman's network needs nft: sudo apt-get install nftables"
    if "/dev/net/tun" in message:
        return "networks of ordinary users need that device: sudo chmod 666 /dev/net/tun"
    if "runtime directory for rootless netns" in message:
        return "podman 4.3 wants it below /run, where a login makes it: export XDG_RUNTIME_DIR=/run/user/$(id -u)"
    return HINT


def has_container(name: str) -> bool:
    """Return whether there is a container of a name, in any state."""
    return run(Command(argv=("podman", "container", "exists", name), accept=(0, 1))).code == 0


def find_id(name: str) -> str:
    """Return a container's id. Raises ToolError."""
    return str(inspect_container(name)["Id"])


def inspect_container(name: str) -> dict[str, Any]:
    """Return podman's description of a container. Raises ToolError."""
    finished = run(Command(argv=("podman", "container", "inspect", name), what=f"looking {name} up"))
    found: list[dict[str, Any]] = json.loads(finished.stdout)
    return found[0]


def execute(name: str, argv: Sequence[str]) -> CommandResult:
    """Run a command in a container as its user; any exit code is accepted. Raises MissingTool."""
    return run(Command(argv=("podman", "exec", "--", name, *argv), accept=_ANY))


def check_health(name: str) -> CommandResult:
    """Run the container's health check now: exit code 0 is healthy, 1 unhealthy, 125 without a check."""
    return run(Command(argv=("podman", "healthcheck", "run", name), accept=_ANY))


def stop(name: str, seconds: int) -> CommandResult:
    """Stop a container, and kill it after so many seconds."""
    return run(Command(argv=("podman", "stop", "--time", str(seconds), name), accept=_ANY, is_cleanup=True))


def remove(name: str, seconds: int = 0) -> None:
    """Remove a container; a running one has so many seconds to end, and a missing one is not an error."""
    run(Command(argv=("podman", "rm", "--force", "--time", str(seconds), name), accept=_ANY, is_cleanup=True))


def read_log(name: str) -> str:
    """Return the last lines of a container's output, both streams."""
    finished = run(Command(argv=("podman", "logs", "--tail", "50", name), accept=_ANY, is_cleanup=True))
    return (finished.stdout + finished.stderr).decode("utf-8", "replace").strip()


def name_of(argv: Sequence[str]) -> str:
    """Return the name that a command gives to its container."""
    return next((word.partition("=")[2] for word in argv if word.startswith("--name=")), "a container")


def list_pids(name: str) -> tuple[int, ...]:
    """Return the host's process ids of a container. Raises ToolError."""
    finished = run(Command(argv=("podman", "top", name, "hpid"), what=f"listing the processes of {name}"))
    return tuple(int(line) for line in finished.text.splitlines()[1:] if line.strip().isdecimal())


def read_proc(path: str, *, rootless: bool) -> str:
    """Return a file below /proc, empty if it is gone; an ordinary user reads it in podman's user namespace."""
    if rootless:
        return run(Command(argv=("podman", "unshare", "cat", path), accept=_ANY)).stdout.decode(
            "utf-8", "surrogateescape"
        )
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def read_link(path: str, *, rootless: bool) -> str:
    """Return the target of a link below /proc; see ``read_proc``."""
    if rootless:
        return run(Command(argv=("podman", "unshare", "readlink", path), accept=_ANY)).text
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def signal_pids(pids: Sequence[int], number: int, *, rootless: bool) -> None:
    """Send a signal to processes of a container; missing ones are ignored."""
    before = ("podman", "unshare") if rootless else ()
    run(Command(argv=(*before, "kill", f"-{number}", *map(str, pids)), accept=_ANY, is_cleanup=True))
