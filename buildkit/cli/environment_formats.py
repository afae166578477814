"""The formats in which an environment is printed instead of started."""

from __future__ import annotations

import sys
from functools import partial

from buildkit.build.gpu_environment import planned_environment
from buildkit.cli.printed_formats import PrintedFormat
from buildkit.inspection.stage_container import warn_of_notes
from buildkit.running.commands import render_commands
from buildkit.running.compose import render_compose_environment
from buildkit.running.environment import RunningEnvironment
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.kubernetes import render_kubernetes
from buildkit.running.mps import with_mps
from buildkit.running.quadlet import render_quadlet_environment
from buildkit.running.seccomp import render_seccomp
from buildkit.running.secret_notes import secret_notes
from buildkit.services.mounted_files import ensure_mounted_files
from buildkit.services.replicas import shadow_notes, write_proxies
from buildkit.services.rollout_files import find_proxies


def _render_units(environment: RunningEnvironment) -> str:
    return "\n".join(f"# {name}\n{text}" for name, text in render_quadlet_environment(environment))


FORMATS: dict[str, PrintedFormat[RunningEnvironment]] = {
    "print": PrintedFormat(about="commands", render=render_commands, reader=GpuFormat.HOST, here=True),
    "compose": PrintedFormat(
        about="compose file", render=render_compose_environment, reader=GpuFormat.PODMAN, here=True
    ),
    "quadlet": PrintedFormat(about="units for systemd", render=_render_units, reader=GpuFormat.HOST, here=True),
    "kubernetes": PrintedFormat(about="Kubernetes objects", render=render_kubernetes, reader=GpuFormat.KUBERNETES),
    "docker-compose": PrintedFormat(
        about="compose file for docker compose, which reads GPUs otherwise",
        render=partial(render_compose_environment, form=GpuFormat.DOCKER),
        reader=GpuFormat.DOCKER,
        here=True,
    ),
    "kube-play": PrintedFormat(
        about="Kubernetes objects for podman kube play",
        render=partial(render_kubernetes, form=GpuFormat.PLAY),
        reader=GpuFormat.PLAY,
    ),
    "seccomp": PrintedFormat(about="seccomp profile that those name", render=lambda _: render_seccomp()),
}


def print_environment(environment: RunningEnvironment, form: PrintedFormat[RunningEnvironment]) -> None:
    """Print an environment in a format; what that cannot say is a warning, too.

    What services on this host read is written where the format says that it lies.
    """
    planned = planned_environment(environment)
    if form.here:
        write_proxies(environment)
        ensure_mounted_files(environment)
        warn_of_notes([note for proxy in find_proxies(environment) for note in shadow_notes(proxy)], sys.stderr)
        planned = with_mps(planned)  # the daemon of a cluster is that of its plugin
    sys.stdout.write(form.render(planned))
    if form.reader:
        containers = [service.container for service in planned.services]
        warn_of_notes((*secret_notes(containers, form.reader), *gpu_notes(containers, form.reader)), sys.stderr)
