"""The container of a stage: its flags, its network, and what this host cannot apply of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TextIO

from buildkit.build.gpu_grants import grant_gpus
from buildkit.build.planner import Planner
from buildkit.declare.graph import ResolvedStage
from buildkit.errors import DefinitionError
from buildkit.plan.compose import Composition
from buildkit.plan.mounted_models import MODELS_MOUNT
from buildkit.plan.spec import Kind, MakeRoot
from buildkit.report.text import sanitize
from buildkit.running.flags import ContainerSpec, make_container, network_argv
from buildkit.running.host import PodmanHost, UnsupportedFlag
from buildkit.running.mounts import ImageMount
from buildkit.tools import podman


def describe_container(planner: Planner, stage: str, *, name: str = "", host_port: int | None = None) -> ContainerSpec:
    """Return the container of a stage from its definition, whether or not it was built; raises DefinitionError."""
    composition = planner.composer.compose(stage)
    config = composition.config
    project = planner.context.project
    resolved = planner.graph.resolve(stage)
    name = name or f"{project.name}-{stage}"
    container = make_container(project.ref(stage), name, config, resolved.running, host_port=host_port)
    owner, models = _find_owner(resolved, config.user), _find_models(planner, resolved)
    has_python = any(spec.kind is Kind.PREFIX for spec in composition.specs)
    python = f"{project.target.prefix}/bin/python" if has_python else ""
    return replace(container, owner=owner, models=models, gpu=resolved.gpu, python=python)


def _find_models(planner: Planner, resolved: ResolvedStage) -> ImageMount | None:
    if not resolved.models_stage:
        return None
    image = planner.context.project.ref(resolved.models_stage)
    return ImageMount(image=image, target=MODELS_MOUNT, stage=resolved.models_stage)


def _find_owner(resolved: ResolvedStage, user: str) -> tuple[int, int] | None:
    """Return the numbers of an image's user, if it is one of those that its root adds; None for others and for none."""
    users = {one.name: one for stage in resolved.chain if stage.debian for one in stage.debian.users}
    return (users[user].uid, users[user].gid) if user in users else None


def check_runnable(composition: Composition, command: Sequence[str]) -> None:
    """Raise DefinitionError if a container of the image could run nothing, whatever the host."""
    file, config = composition.stage.file, composition.config
    if not composition.root:
        raise DefinitionError(f"{file}: nothing can run in it, because it has no root", hint="add `from` or [root]")
    is_debian = isinstance(composition.root[0].work, MakeRoot)  # a registry's image may bring a command
    if is_debian and not (config.entrypoint or config.cmd or command):
        hint = f"set `cmd` in [config], or name a command: nox -s run-{composition.stage.name} -- -- python"
        raise DefinitionError(f"{file}: there is nothing to run: the image has no command", hint=hint)


@contextmanager
def prepare_network(container: ContainerSpec, *, keep: bool = False) -> Iterator[PodmanHost]:
    """Yield what the host supports, with the network of a closed container made.

    The network is removed at the end, unless ``keep`` is set and nothing failed.
    """
    host = podman.probe_host()
    if not container.closed:
        yield host
        return
    closes = host.may_close and podman.ensure_network(network_argv(container))
    done = False
    try:
        yield replace(host, closes=closes)
        done = True
    finally:
        if closes and not (done and keep):
            podman.remove_network(container.name)


@contextmanager
def grant_own_gpus(container: ContainerSpec, out: TextIO) -> Iterator[ContainerSpec]:
    """Yield a container that runs alone with the GPUs that it gets, reserved until the block ends.

    Print a warning if it runs on the CPU, or without the daemon that its limits need. Raises BuildError, see
    `grant_gpus`.
    """

    def warn(text: str) -> None:
        out.write(f"warning: {sanitize(text)}\n")
        out.flush()

    with grant_gpus((container,), warn) as (granted,):
        if granted.gpu and granted.gpu.share == "mps":
            warn(f"{granted.name} runs without MPS and its limits: nox -s up starts the daemon of an environment")
        yield granted


def warn_of_lacks(lacks: Sequence[UnsupportedFlag], out: TextIO) -> None:
    """Print which protections this host cannot apply, with hints."""
    out.writelines(f"warning: {sanitize(lack.what)}\nhint: {sanitize(lack.hint)}\n" for lack in lacks)
    out.flush()


def warn_of_notes(notes: Sequence[str], out: TextIO) -> None:
    """Print what a format cannot say of the GPUs that are asked for."""
    out.writelines(f"warning: {sanitize(note)}\n" for note in notes)
    out.flush()


def missing_needs(lacks: Sequence[UnsupportedFlag]) -> frozenset[str]:
    """Return the capabilities that the flags need and this host lacks."""
    return frozenset(lack.needs for lack in lacks)
