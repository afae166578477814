"""This host's GPUs as containers can have them, and the containers that have some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from buildkit.gpu.cdi_spec import find_names
from buildkit.gpu.eligibility import HeldDevice
from buildkit.gpu.holders import parse_holders
from buildkit.gpu.host_devices import GpuHost
from buildkit.gpu.mps import has_control
from buildkit.tools.cdi import find_cdi
from buildkit.tools.gpu import find_gpus
from buildkit.tools.podman import find_version
from buildkit.tools.process import Command, find_tool, run

SELINUX = Path("/sys/fs/selinux")
MEND_SELINUX = "sudo setsebool -P container_use_devices=true"
_ANY = tuple(range(256))


def find_gpu_host() -> GpuHost:
    """Ask NVML, and read the CDI specifications."""
    version = ".".join(map(str, find_version())) if find_tool("podman") else ""
    cdi = find_cdi()
    blocked = find_selinux_block()
    return GpuHost(gpus=find_gpus(), names=find_names(cdi, version), blocked=blocked, control=has_control(cdi))


def find_selinux_block(folder: Path = SELINUX) -> str:
    """Return why SELinux keeps containers from device nodes; empty if it does not."""
    try:
        enforces = (folder / "enforce").read_text().strip() == "1"
        allows = (folder / "booleans/container_use_devices").read_text().split()[0] == "1"
    except (OSError, IndexError):
        return ""  # no SELinux, or one without a policy for containers
    return f"SELinux keeps containers from devices: {MEND_SELINUX}" if enforces and not allows else ""


def find_held(host: GpuHost) -> tuple[HeldDevice, ...]:
    """Return the devices that this user's running containers have. Raises MissingTool or ToolError."""
    ids = run(Command(argv=("podman", "ps", "--quiet", "--no-trunc"), what="listing containers")).text.split()
    if not ids:
        return ()
    done = run(Command(argv=("podman", "container", "inspect", *ids), accept=_ANY))  # one may have ended
    described: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return parse_holders(described, host)
