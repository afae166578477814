"""What becomes of a secret that is a variable, in words for a comment and a warning. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from buildkit.running.flags import ContainerSpec
from buildkit.running.gpu_notes import GpuFormat

_BECOMES = {
    GpuFormat.PODMAN: "is a secret of podman by `type: env`, which docker compose refuses: --docker-compose",
    GpuFormat.DOCKER: "is taken from the shell, and `docker inspect` shows it",
}


def secret_notes(containers: Iterable[ContainerSpec], form: GpuFormat) -> tuple[str, ...]:
    """Return a line for each variable whose secret the readers of a compose file treat in their own way."""
    if (becomes := _BECOMES.get(form)) is None:
        return ()
    found = ((one.name, secret.variable) for one in containers for secret in one.secret_variables)
    return tuple(f"{name}: {variable} {becomes}" for name, variable in found)
