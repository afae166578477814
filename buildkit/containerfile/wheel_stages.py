"""Build stages of wheels: heavy, light and compiled wheels are installed into separate trees."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from buildkit.containerfile.builder import BuildStage, ContainerfileBuilder
from buildkit.containerfile.quoting import check_path, render_copy
from buildkit.containerfile.tool_stages import PIP, ToolStages
from buildkit.declare.project import Project
from buildkit.locks.pins import Artifact
from buildkit.plan.spec import Compile, PackWheels, Spec

_OUT = "/wheels"
_LINKS = "/links"
_COMPILER = "bytecode.py"
_EPOCH = 315532800  # 1980-01-01, the earliest time in a zip


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelStages:
    """Adds build stages that install wheels."""

    containerfile: ContainerfileBuilder
    project: Project
    tools: ToolStages

    def group(self, specs: Iterable[Spec]) -> dict[str, str]:
        """Return the group (``heavy``, ``light``) of every layer of wheels, by layer name."""
        works = {spec.name: spec.work for spec in specs if isinstance(spec.work, PackWheels)}
        return {name: "heavy" if self._is_heavy(work) else "light" for name, work in works.items()}

    def _is_heavy(self, work: PackWheels) -> bool:
        return len(work.wheels) == 1 and work.wheels[0].is_wheel and work.wheels[0].size >= self.project.heavy

    def install(self, label: str, artifacts: Sequence[Artifact]) -> str:
        """Add a stage with these wheels installed below ``/wheels``; return its name."""
        copied = [self.containerfile.add_file(f"{label}.txt", render_requirements(artifacts)), *self._put_compiler()]
        uv = self._copy_uv()
        build = self.containerfile.add_stage(
            label, self.tools.venv(), f"{label}: {_count(artifacts)}, and no other bytes than these"
        )
        build.lines += [*uv, f"COPY {' '.join(copied)} /tmp/"]
        mounts = _cache("uv" if self.containerfile.options.uv else "pip") + self._mount
        self._run(build, f"--require-hashes --only-binary=:all:{self._index} -r /tmp/{label}.txt", mounts)
        return build.name

    def install_compiled(self, label: str, builder: str, items: Sequence[Compile]) -> str:
        """Add a stage with ``items``, compiled in the stage ``builder``, below ``/wheels``; return its name."""
        stages = [self._compile(item, builder) for item in items]
        names = ", ".join(item.artifact.name for item in items)
        uv = self._copy_uv()
        build = self.containerfile.add_stage(label, self.tools.venv(), f"{label}: {names}")
        build.lines += [*uv, *(f"COPY {file} /tmp/" for file in self._put_compiler())]
        build.lines += [f"COPY --from={name} {_OUT}/ /compiled/" for name in stages]
        self._run(build, "--no-index /compiled/*.whl", "")
        return build.name

    def copy(self, build: str) -> str:
        """Return the instruction that copies an installed group into an image."""
        prefix = self.project.target.prefix
        flags = (f"--from={build}", *self.containerfile.options.link_flags)
        return render_copy((f"{_OUT}{prefix}",), prefix, *flags)

    def copy_venv(self) -> str:
        """Return the instruction that copies the virtual environment itself."""
        prefix = self.project.target.prefix
        return render_copy((prefix,), prefix, f"--from={self.tools.venv()}", *self.containerfile.options.link_flags)

    def _run(self, build: BuildStage, what: str, mounts: str) -> None:
        python = shlex.quote(f"{self.project.target.prefix}/bin/python")
        if self.containerfile.options.uv:
            prefix = shlex.quote(f"{_OUT}{self.project.target.prefix}")
            command = f"uv pip install --python {python} --prefix {prefix} --link-mode=copy --no-deps"
        else:
            command = f"{PIP} --python {python} install --root {_OUT} --no-deps --no-compile"
        lines = [f"RUN {mounts}{command}", f"    {what}"]
        if self.containerfile.options.bytecode:
            lines[1] += f" \\\n && {python} /tmp/{_COMPILER} {_OUT}"
        build.lines.append(" \\\n    ".join(lines))

    def _put_compiler(self) -> tuple[str, ...]:
        """Add the script that compiles bytecode, if enabled; it is used in ``/tmp``."""
        return (
            (self.containerfile.add_file(_COMPILER, bytecode_script()),) if self.containerfile.options.bytecode else ()
        )

    def _copy_uv(self) -> tuple[str, ...]:
        """Return the instruction that copies uv into a build stage, if uv is to install."""
        if not self.containerfile.options.uv:
            return ()
        image = self.containerfile.add_argument(
            "UV", self.containerfile.options.uv, "an image that holds /uv, which installs wheels"
        )
        existing = [build.name for build in self.containerfile.builds if build.base == image]
        name = existing[0] if existing else self.containerfile.add_stage("uv", image, "uv, in place of pip").name
        return (f"COPY --from={name} /uv /usr/local/bin/",)

    def fetch(self, label: str, artifacts: Sequence[Artifact], folder: str) -> tuple[str, str]:
        """Return a requirements file and the command that downloads it to ``folder``; the file is used in ``/tmp``."""
        file = self.containerfile.add_file(f"{label}.txt", render_requirements(artifacts))
        options = f"--no-deps --require-hashes --only-binary=:all:{self._index} -r /tmp/{label}.txt"
        return file, f"{_cache('pip')}{self._mount}{PIP} download {options} -d {folder}"

    @property
    def _mount(self) -> str:
        """The mount of the folder of wheels that replaces an index."""
        links = self.containerfile.options.find_links
        return (
            f"--mount=type=bind,source={self.containerfile.add_source(links)},target={_LINKS} \\\n    " if links else ""
        )

    @property
    def _index(self) -> str:
        return f" --no-index --find-links {_LINKS}" if self.containerfile.options.find_links else ""

    def _compile(self, item: Compile, builder: str) -> str:
        artifact = item.artifact
        build = self.containerfile.add_stage(
            f"compile-{artifact.name}", builder, f"{artifact.name}, compiled in `{builder}`"
        )
        python = shlex.quote(f"{self.project.target.prefix}/bin/python")
        env = f"SOURCE_DATE_EPOCH={_EPOCH} PYTHONHASHSEED=0"
        if self.project.target.standalone:  # its sysconfig names the compilers of its build
            env += " CC=gcc CXX=g++ AR=ar LDSHARED='gcc -shared'"
        wheel = f"{env} {python} -m pip wheel --no-deps --no-build-isolation --wheel-dir {_OUT}"
        if item.tree is not None:
            path = self.containerfile.add_source(check_path(item.tree.path, f"requirements of {artifact.name}", ""))
            build.lines += [render_copy((path,), "/tmp/source"), f"RUN {wheel} --no-index /tmp/source"]  # noqa: S108
            return build.name
        listed = self.containerfile.add_file(f"{build.name}.txt", render_requirements((artifact,)))
        path = f"/tmp/{build.name}.txt"  # noqa: S108 - of the build stage
        options = f"--no-binary={artifact.name} --require-hashes{self._index} -r {path}"
        if artifact.git:  # pip hashes no commit, and needs git here
            options = f"-r {path}"
        build.lines += [f"COPY {listed} {path}", f"RUN {self._mount}{wheel} {options}"]
        return build.name


def bytecode_script() -> str:
    """Return the text of the script that compiles bytecode."""
    return (files("buildkit.containerfile") / _COMPILER).read_text("utf-8")


def render_requirements(artifacts: Iterable[Artifact]) -> str:
    """Render a requirements file that allows exactly one file for each of ``artifacts``."""
    ordered = sorted(artifacts, key=lambda artifact: artifact.name)
    return "".join(f"{_requirement(artifact)}{_hash(artifact)}\n" for artifact in ordered)


def _hash(artifact: Artifact) -> str:
    return "" if artifact.git else f" \\\n    --hash={artifact.sha256}"


def _requirement(artifact: Artifact) -> str:
    """Return a requirement of the version, at the URL that a lock of another tool says."""
    is_url = "://" in artifact.place
    return f"{artifact.name} @ {artifact.place}" if is_url else f"{artifact.name}=={artifact.version}"


def _cache(kind: str) -> str:
    return f"--mount=type=cache,target=/root/.cache/{kind} \\\n    "


def _count(artifacts: Sequence[Artifact]) -> str:
    return f"{len(artifacts)} wheel" + ("s" if len(artifacts) != 1 else "")
