"""The environment in which podman runs containers on any host, for all cgroups and limits."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from buildkit.doctor.containersconf import render_containers_conf
from buildkit.doctor.probe_containers import probe_containers


def container_environment(folder: Path) -> dict[str, str]:
    """Additions to the environment: ``CONTAINERS_CONF`` naming a file in ``folder``, if one is needed."""
    text = _containers_conf()
    if not text:
        return {}
    path = folder / "containers.conf"
    path.write_text(text, "utf-8")
    return {"CONTAINERS_CONF": str(path)}


@cache
def _containers_conf() -> str:
    """Probe the host once per process: podman takes a quarter of a second to answer."""
    return render_containers_conf(probe_containers())


def remove_with_mounts(folder: Path) -> None:
    """Remove a folder, and first what containers left mounted below it."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for mount in sorted((line.split(" ")[1] for line in mounts), reverse=True):
        if mount.startswith(f"{folder}/"):
            subprocess.run(("umount", "--lazy", mount), check=False)
    shutil.rmtree(folder, ignore_errors=True)
