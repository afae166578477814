"""CPU time of containers, from the kernel's control groups."""

from __future__ import annotations

from pathlib import Path

from buildkit.errors import BuildError
from buildkit.tools.podman import inspect_container

_ROOT = Path("/sys/fs/cgroup")
_NANO, _MICRO = 1e9, 1e6


def read_cpu_seconds(container: str) -> float:
    """Return the CPU time that a container has used so far. Raises BuildError if the kernel does not say."""
    state = inspect_container(container)["State"]
    try:
        lines = Path(f"/proc/{state['Pid']}/cgroup").read_text("utf-8").splitlines()
        return _read([(line.split(":", 2)[1], line.split(":", 2)[2]) for line in lines])
    except (OSError, KeyError, ValueError):
        raise BuildError(f"the CPU time of {container} cannot be read", hint="scale by `in-flight` instead") from None


def _read(groups: list[tuple[str, str]]) -> float:
    """Return the CPU time of a control group; ``groups`` are controllers and paths, as /proc/PID/cgroup has them."""
    for controllers, path in groups:  # version 1
        if "cpuacct" in controllers.split(","):
            return int(Path(f"{_ROOT}/{controllers}{path}/cpuacct.usage").read_text("utf-8")) / _NANO
    path = dict(groups)[""]
    used = dict(line.split() for line in Path(f"{_ROOT}{path}/cpu.stat").read_text("utf-8").splitlines())
    return int(used["usage_usec"]) / _MICRO
