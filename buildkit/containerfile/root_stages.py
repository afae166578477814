"""Build stages of a root: made by mmdebstrap in its own stage, or a registry image, with steps on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from buildkit.containerfile.builder import BuildStage, ContainerfileBuilder
from buildkit.containerfile.quoting import check_path, quote_argv
from buildkit.containerfile.root_script import ROOT, SOURCES, render_root_script, root_tools
from buildkit.containerfile.tool_stages import ToolStages
from buildkit.declare.project import Project
from buildkit.digest import Key
from buildkit.errors import DefinitionError
from buildkit.plan.roots import find_apt_pins, writes_sources
from buildkit.plan.spec import MakeRoot, PullImage, RunStep, Spec

_TIDY = "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/*"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootStages:
    """Adds the build stages of roots; stages that two chains share are added once."""

    containerfile: ContainerfileBuilder
    project: Project
    tools: ToolStages
    known: dict[Key, str]
    name: Callable[[str], str]

    def add(self, chain: Sequence[Spec]) -> str:
        """Add the stages of ``chain``; return what an image with this root is built FROM (``scratch`` for none)."""
        base = "scratch"
        build: BuildStage | None = None
        for spec in chain:
            if spec.key in self.known:
                base, build = self.known[spec.key], None
                continue
            stage = spec.name.partition("/")[0]
            if not isinstance(spec.work, RunStep):
                build = self._start(stage, spec)
            else:
                if build is None or build.comment != f"root of `{stage}`":
                    build = self.containerfile.add_stage(self.name(stage), base, f"root of `{stage}`")
                if "USER 0" not in build.lines and self._has_user(chain):
                    build.lines.append("USER 0")
                build.lines += self._step(stage, spec, spec.work)
            base = self.known[spec.key] = build.name
        return base

    def _has_user(self, chain: Sequence[Spec]) -> bool:
        """Return whether the chain starts from an image that may name a user."""
        return bool(self.containerfile.options.root) or isinstance(chain[0].work, PullImage)

    def _start(self, stage: str, spec: Spec) -> BuildStage:
        comment = f"root of `{stage}`"
        if self.containerfile.options.root:
            image = self.containerfile.add_argument(
                "ROOT", self.containerfile.options.root, "the root that the image starts from"
            )
            return self.containerfile.add_stage(self.name(stage), image, comment)
        if isinstance(spec.work, PullImage):
            return self.containerfile.add_stage(self.name(stage), spec.work.ref, comment)
        if not isinstance(spec.work, MakeRoot):
            raise DefinitionError(
                f"stages/{stage}/stage.toml: a root of a Containerfile cannot be part of another",
                hint="build that one first, and export with --root IMAGE",
            )
        rootfs = self._make(stage, spec.work)
        build = self.containerfile.add_stage(self.name(stage), "scratch", comment)
        build.lines.append(f"COPY --from={rootfs} {ROOT}/ /")
        return build

    def _make(self, stage: str, work: MakeRoot) -> str:
        debian, arch = work.debian, self.project.target.deb_arch
        tools = self.tools.debian(debian.suite, *root_tools(work))
        comment = f"{len(work.pins)} Debian packages at the versions of {debian.packages}.lock"
        build = self.containerfile.add_stage(f"{stage}-rootfs", tools, comment)
        pins = "".join(f"{pin.name}={pin.version}\n" for pin in work.pins)
        packages = self.containerfile.add_file(f"{stage}.packages", f"# Debian {debian.suite}, {arch}\n{pins}")
        packages_path = f"/tmp/{stage}.packages"  # noqa: S108 - of the build stage
        text = render_root_script(work, arch, packages_path, bytecode=self.containerfile.options.bytecode)
        script = self.containerfile.add_file(f"{stage}-root.sh", text)
        if work.sources:
            build.lines.append(f"COPY {self.containerfile.add_file(f'{stage}.sources', work.sources)} {SOURCES}")
        else:
            comment = "# a day of snapshot.debian.org (20261122T000000Z), once the archive has dropped these versions"
            build.lines += [comment, "ARG SNAPSHOT="]
        build.lines += [f"COPY {packages} {script} /tmp/", f"RUN sh /tmp/{stage}-root.sh"]
        return build.name

    def _step(self, stage: str, spec: Spec, work: RunStep) -> list[str]:
        run, file = work.run, f"stages/{stage}/stage.toml"
        if (pins := find_apt_pins(run.command)) is not None and not writes_sources(run.command):
            return [_install(pins)]
        mounts = []
        for tree, target in work.mounts:
            source = self.containerfile.add_source(check_path(tree.path, file, "run.mount.source"))
            check_path(target, file, "run.mount.target")
            mounts.append(f"--mount=type=bind,source={source},target={target} \\\n    ")
        mounts += [
            f"--mount=type=secret,id={name},required=true \\\n    " for name in run.secrets
        ]  # at /run/secrets/NAME
        env = ("env", *(f"{name}={value}" for name, value in run.env)) if run.env else ()
        lines = [f"# {spec.history.removeprefix('run: ')}"]
        if work.mounts:
            lines.append("# (buildah before 1.39 does not see that a bound file changed: add --no-cache then)")
        return [*lines, f"RUN {''.join(mounts)}{quote_argv((*env, *run.command))}"]


def _install(pins: Sequence[str]) -> str:
    packages = "".join(f"    {pin} \\\n" for pin in pins)
    return (
        "RUN export DEBIAN_FRONTEND=noninteractive \\\n && apt-get update -qq \\\n"
        f" && apt-get install -qq --yes --no-install-recommends \\\n{packages} && {_TIDY}"
    )
