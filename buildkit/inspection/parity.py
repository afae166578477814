"""What a running container is, as podman and its own Python tell, in the words of `plan.parity`."""

from __future__ import annotations

import json

from buildkit.errors import BuildError
from buildkit.tools import podman
from buildkit.tools.podman_objects import find_containers_of

_LIST = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}))"
)
_NO_PROGRAM = (126, 127)  # podman's exit codes
_CONFIG = ("User", "WorkingDir", "Entrypoint", "Cmd", "StopSignal")
_FLAGS = ("ReadonlyRootfs", "Memory", "MemorySwap", "PidsLimit", "NanoCpus", "SecurityOpt", "Privileged", "Tmpfs")


def describe_running(ref: str, interpreter: str) -> dict[tuple[str, str], str]:
    """Return the facts of the container that runs an image.

    Raises BuildError unless exactly one does, and if its Python cannot list its packages.
    """
    names = find_containers_of(ref)
    if len(names) != 1:
        others = f"end all but one: {', '.join(names)}"
        hint = others if names else "nox -s up, or nox -s run-STAGE -- --detach, starts one"
        raise BuildError(f"{len(names)} containers run {ref}, not one", hint=hint)
    found = podman.inspect_container(names[0])
    config, host = found["Config"], found["HostConfig"]
    facts = {("config", key): _text(config.get(key)) for key in _CONFIG}
    facts |= {("flag", key): _text(host.get(key)) for key in _FLAGS}
    facts["flag", "EffectiveCaps"] = _text(found.get("EffectiveCaps"))
    variables = (text.partition("=") for text in config.get("Env") or ())
    facts |= {("variable", name): value for name, _, value in variables if name not in ("HOSTNAME", "container")}
    return facts | {("package", name): version for name, version in _list_packages(names[0], interpreter).items()}


def _list_packages(container: str, interpreter: str) -> dict[str, str]:
    """Return the versions of Python packages by name; none where there is no Python. Raises BuildError."""
    listed = podman.execute(container, (interpreter, "-c", _LIST))
    if listed.code in _NO_PROGRAM:
        return {}
    if listed.code != 0:
        output = listed.stderr.decode("utf-8", "replace").strip()
        raise BuildError(f"{container}: its Python packages could not be listed", output=output)
    try:
        return parse_packages(listed.stdout)
    except ValueError as error:
        raise BuildError(f"{container}: what it says of its Python packages cannot be read") from error


def parse_packages(text: bytes) -> dict[str, str]:
    """Return versions by name, as a container told them. Raises ValueError."""
    try:
        return {str(name): str(version) for name, version in json.loads(text).items()}
    except (AttributeError, RecursionError):
        raise ValueError("no object of JSON") from None


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True) if value else ""
