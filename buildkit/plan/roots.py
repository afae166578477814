"""Compose roots: the chain of layers of a stage's operating system, step by step. Pure, given a checkout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from buildkit.declare.apt_sources import FILE_NAME, is_replacing, render_sources
from buildkit.declare.graph import ResolvedStage
from buildkit.declare.project import Project
from buildkit.declare.stage import Debian, Run, Stage
from buildkit.errors import DefinitionError, Problem
from buildkit.plan.checkout import Checkout
from buildkit.plan.pulled_image import pull_spec
from buildkit.plan.spec import Kind, MakeRoot, RunStep, Spec, distinct, make_recipe, make_spec

_SHELL = ("/bin/sh", "-eu", "-c")
_INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; apt-get install -qq --yes --no-install-recommends "
)
_REPLACE = "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; "
_WRITTEN = f" > /etc/apt/sources.list.d/{FILE_NAME}; "
_TIDY = "; rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/*"


def step_names(stage: Stage) -> list[str]:
    """Return the layer names of a stage's own steps, which its other layers must not take."""
    first = (
        ["image"]
        if stage.image
        else ["root"]
        if stage.debian
        else ["image", "containerfile"]
        if stage.containerfile
        else []
    )
    steps = [*first, *([_apt_name(stage)] if stage.apt else ()), *(run.name for run in stage.run)]
    names: list[str] = []
    for step in steps:
        names.append(distinct(f"{stage.name}/{step}", names))
    return names


class RootComposer:
    """Composes roots of one checkout."""

    def __init__(self, project: Project, checkout: Checkout) -> None:
        self._project = project
        self._checkout = checkout

    def chain(self, resolved: ResolvedStage) -> tuple[Spec, ...]:
        """Return the specs of a stage's root, lowest first; raises DefinitionError."""
        chain: tuple[Spec, ...] = ()
        for stage in resolved.chain:
            chain = (*chain, *self._start(stage))
            for run in ((self._apt_step(stage, chain),) if stage.apt else ()) + stage.run:
                if not chain:
                    problem = Problem(file=stage.file, key="from", what=f"`{stage.base}` has no root to run steps in")
                    raise DefinitionError.of([problem])
                chain = (*chain, self._run_step(stage, run, chain))
        return chain

    def _start(self, stage: Stage) -> tuple[Spec, ...]:
        if stage.image:
            return (pull_spec(stage, self._checkout.image(stage.image), self._project.target.deb_arch),)
        if stage.containerfile:
            from buildkit.plan.containerfile_layers import compose_containerfile  # few roots are made so

            return compose_containerfile(stage, stage.containerfile, self._checkout, self._project)
        return () if stage.debian is None else (self._debian(stage, stage.debian),)

    def _debian(self, stage: Stage, debian: Debian) -> Spec:
        pins, arch = self._checkout.apt(debian.packages), self._project.target.deb_arch
        sources = render_sources(debian.suite, debian.components, debian.archives, arch)
        recipe, key = make_recipe(
            Kind.ROOT,
            suite=debian.suite,
            variant=debian.variant,
            components=debian.components,
            arch=arch,
            packages=[f"{pin.name}={pin.version}" for pin in pins],
            exclude=debian.exclude,
            users=[[u.name, u.uid, u.gid, u.home, u.shell] for u in debian.users],
            drop_setuid=debian.drop_setuid,
            bytecode=self._project.bytecode,
            **({"sources": sources} if sources else {}),
            **({"records": "md5sums"} if debian.variant == "extract" else {}),  # what status.d holds of each package
            **self._project.stored,
        )
        history = f"Debian {debian.suite}: {len(pins)} packages of {debian.packages}"
        return make_spec(
            stage,
            "root",
            Kind.ROOT,
            recipe,
            key,
            work=MakeRoot(debian=debian, pins=pins, arch=arch, sources=sources),
            history=history,
        )

    def _apt_step(self, stage: Stage, chain: Sequence[Spec]) -> Run:
        pins = self._checkout.apt(stage.apt)
        names = " ".join(f"{pin.name}={pin.version}" for pin in pins)
        is_first = not any(isinstance(spec.work, RunStep) and find_apt_pins(spec.work.run.command) for spec in chain)
        sources = self._checkout.sources(stage.apt) if is_first else ""
        script = f"{_source_script(sources)}{_INSTALL}{names}{_TIDY}"
        return Run(name=_apt_name(stage), command=(*_SHELL, script), network=True)

    def _run_step(self, stage: Stage, run: Run, chain: tuple[Spec, ...]) -> Spec:
        mounts = tuple((self._checkout.tree(mount.source), mount.target) for mount in run.mounts)
        recipe, key = make_recipe(
            Kind.RUN,
            parent=chain[-1].key.hex,
            command=run.command,
            network=run.network,
            env=dict(run.env),
            mounts=[[target, tree.listing()] for tree, target in mounts],
            **({"secrets": run.secrets} if run.secrets else {}),
            **self._project.stored,
        )
        work = RunStep(chain=chain, run=run, mounts=mounts)
        spec = make_spec(stage, run.name, Kind.RUN, recipe, key, work=work, history=f"run: {run.name}")
        return replace(spec, name=distinct(spec.name, [below.name for below in chain]))


def find_apt_pins(command: Sequence[str]) -> list[str] | None:
    """Return the packages (``gcc=14.2``) that the command of an ``[apt]`` step installs; None for other commands."""
    shell, script = tuple(command[:-1]), "".join(command[-1:])
    if shell != _SHELL or not script.endswith(_TIDY):
        return None
    sources, install, names = script.removesuffix(_TIDY).partition(_INSTALL)
    return names.split() if install and (not sources or sources.endswith(_WRITTEN)) else None


def writes_sources(command: Sequence[str]) -> bool:
    """Return whether the command of an ``[apt]`` step also writes archives into an image of a registry."""
    return bool(command) and _WRITTEN in command[-1].partition(_INSTALL)[0]


def _source_script(sources: str) -> str:
    """Return the script that writes archives into an image; a snapshot takes the place of those that it has."""
    if not sources:
        return ""
    from shlex import quote  # few images get other archives

    text = quote(sources)
    return f"{_REPLACE if is_replacing(sources) else ''}printf %s {text}{_WRITTEN}"


def _apt_name(stage: Stage) -> str:
    return f"apt {stage.apt}"
