"""Render a composition as a Containerfile: build stages for roots, wheels, models and files, combined in the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from buildkit.containerfile.builder import ContainerfileBuilder, ContainerfileExport, ExportOptions, SideFile
from buildkit.containerfile.config import render_config
from buildkit.containerfile.model_stages import ModelStages
from buildkit.containerfile.quoting import check_path, quote_word, render_copy
from buildkit.containerfile.root_stages import RootStages
from buildkit.containerfile.tool_stages import ToolStages
from buildkit.containerfile.wheel_stages import WheelStages
from buildkit.declare.graph import MODELS
from buildkit.declare.project import Project
from buildkit.errors import DefinitionError
from buildkit.layers.framework import MODULE, layer_texts
from buildkit.locks.pins import Artifact
from buildkit.plan.compose import Composition
from buildkit.plan.spec import (
    BuildContainerfile,
    Compile,
    MakeRoot,
    PackFiles,
    PackFramework,
    PackLinks,
    PackModel,
    PackPrefix,
    PackPython,
    PackSbom,
    PackServing,
    PackWheels,
    PullImage,
    RunStep,
    Spec,
)

MARK = "# made by `nox -s export-containerfile"


def render_export(
    composition: Composition, find_builder: Callable[[], Composition], project: Project, options: ExportOptions
) -> ContainerfileExport:
    """Return the Containerfile of a stage. Raises DefinitionError for anything that it cannot express.

    ``find_builder`` is called only if a wheel must be compiled. Pure: equal values give equal text.
    """
    containerfile = ContainerfileBuilder(options, reserved=(composition.stage.name,))
    tools = ToolStages(containerfile, project)
    wheels = WheelStages(containerfile=containerfile, project=project, tools=tools)
    writer = _Writer(
        composition=composition,
        find_builder=find_builder,
        containerfile=containerfile,
        roots=RootStages(
            containerfile=containerfile,
            project=project,
            tools=tools,
            known={},
            name=_root_namer(composition.stage.name),
        ),
        wheels=wheels,
        models=ModelStages(containerfile=containerfile, tools=tools, wheels=wheels),
        tools=tools,
    )
    writer.write()
    return ContainerfileExport(text=_render(composition, project, containerfile), files=tuple(containerfile.files))


def ignore_path(options: ExportOptions) -> str:
    """Return the path of the export's ignore file: docker finds it by name, buildah and podman by ``--ignorefile``."""
    return f"{options.file}.dockerignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    composition: Composition
    find_builder: Callable[[], Composition]
    containerfile: ContainerfileBuilder
    roots: RootStages
    wheels: WheelStages
    models: ModelStages
    tools: ToolStages

    def write(self) -> None:
        composition = self.composition
        if composition.prefer:
            raise DefinitionError(
                f"{composition.stage.file}: `prefer` decides between wheels that meet, which pip and uv cannot",
                hint="exclude one of the two packages, to export a Containerfile",
            )
        _check_models(composition)
        base = self.roots.add(composition.root)
        copies = list(self._layers())
        stage = composition.stage
        build = self.containerfile.add_stage(stage.name, base, _one_line(stage.summary), own=True)
        resets = bool(composition.root and self.containerfile.options.root)
        inherits = _inherits(composition)
        if inherits and not resets:
            _check_user(composition)
        heavy = [line for is_file, line in copies if not is_file]
        files = [line for is_file, line in copies if is_file]
        workdir, config = render_config(composition.config, stage.file, inherits=inherits or resets, resets=resets)
        build.lines += [*workdir, *heavy, *config, *files]

    def _layers(self) -> Iterator[tuple[bool, str]]:
        """Yield an instruction for every layer, and whether it copies the repository's files, which change often."""
        installed: set[str] = set()
        groups = self.wheels.group(self.composition.layers)
        for spec in self.composition.layers:
            match spec.work:
                case PackPrefix():
                    yield from ((False, line) for line in (*self._python(self.composition), self.wheels.copy_venv()))
                case PackWheels() if (group := groups[spec.name]) not in installed:
                    installed.add(group)
                    members = [s for s in self.composition.layers if groups.get(s.name) == group]
                    for line in self._install(f"{group}-wheels", members, self._builder):
                        yield False, line
                case PackModel() | PackFramework() as work:
                    for line in self._copies(work):
                        yield False, line
                case PackFiles() as work:
                    yield True, self._copy(spec, work)
                case PackWheels() | PackSbom() | PackPython():
                    pass  # of a group that is installed; of recipes, which other builders do not know
                case MakeRoot() | PullImage() | BuildContainerfile() | RunStep() | PackLinks() | PackServing():
                    raise AssertionError(f"{spec.name} belongs to a root, or to models that are refused")

    def _install(self, label: str, specs: Sequence[Spec], builder: Callable[[], str]) -> Iterator[str]:
        """Yield the COPYs of ready wheels, then of those that must be compiled."""
        artifacts, compiled = _wheels_of(specs)
        if artifacts:
            yield self.wheels.copy(self.wheels.install(label, artifacts))
        if compiled:
            yield self.wheels.copy(self.wheels.install_compiled("compiled-wheels", builder(), compiled))

    def _python(self, composition: Composition) -> list[str]:
        """Return the COPY of the images' own Python, if they have one."""
        works = (spec.work for spec in composition.layers)
        return [self.tools.copy_python(work) for work in works if isinstance(work, PackPython) and not work.bytecode]

    def _builder(self) -> str:
        """Add the stage in which wheels are compiled (root, wheels and environment); return its name."""
        whole = self.find_builder()
        base = self.roots.add(whole.root)
        artifacts, _ = _wheels_of(whole.layers)
        copies = [self.wheels.copy(self.wheels.install("builder-wheels", artifacts))] if artifacts else []
        if any(isinstance(spec.work, PackPrefix) for spec in whole.layers):
            copies.insert(0, self.wheels.copy_venv())
        copies[:0] = self._python(whole)
        build = self.containerfile.add_stage(whole.stage.name, base, "where wheels are compiled; never shipped")
        inherits = _inherits(whole)
        _, config_lines = render_config(whole.config, whole.stage.file, inherits=inherits)
        build.lines += ["USER 0"] if inherits else []
        build.lines += [*copies, *(line for line in config_lines if line.startswith("ENV "))]
        return build.name

    def _copy(self, spec: Spec, work: PackFiles) -> str:
        file = f"stages/{spec.name.partition('/')[0]}/stage.toml"
        source = self.containerfile.add_source(check_path(work.tree.path, file, "copy.source"))
        target = check_path(work.copy.target, file, "copy.target")
        single = [tree_file for tree_file in work.tree.files if tree_file.path == "."]
        if single and single[0].link:
            raise DefinitionError(
                f"{file}: `{source}` is a symbolic link, which a Containerfile would follow",
                hint="name the folder that holds it",
            )
        destination = (target.rstrip("/") or "/") if single else f"{target.rstrip('/')}/"
        flags = ("--chmod=0755",) if single and single[0].executable else ("--chmod=0644",) if single else ()
        return render_copy((source,), destination, *self.containerfile.options.link_flags, *flags)

    def _copies(self, work: PackModel | PackFramework) -> Iterator[str]:
        """Return the COPYs of a model, or of the module that sets frameworks, whose files are side files."""
        if isinstance(work, PackModel):
            return self.models.copies(work)
        texts = layer_texts(work.settings)
        paths = tuple(self.containerfile.add_file(f"{MODULE}/{name}", text) for name, text in sorted(texts.items()))
        return iter((render_copy(paths, f"{work.target}/", "--chmod=0644", *self.containerfile.options.link_flags),))


def _inherits(composition: Composition) -> bool:
    """Return whether the chain starts from a registry image, which has a config of its own."""
    return bool(composition.root) and not isinstance(composition.root[0].work, MakeRoot)


def _check_models(composition: Composition) -> None:
    """Raise DefinitionError for models that are mounted, in either image, and for those that are served."""
    if any(isinstance(spec.work, PackServing) for spec in composition.layers):
        raise DefinitionError(
            f"{composition.stage.file}: served models are configured by their graphs, which a Containerfile cannot",
            hint="write them by hand and copy them by [[copy]], in place of [serve], to export a Containerfile",
        )
    mounts = any(isinstance(spec.work, PackLinks) for spec in composition.layers)
    if mounts or composition.stage.models_of:
        name = composition.stage.models_of or composition.stage.name
        raise DefinitionError(
            f"{composition.stage.file}: its models are an image of their own, `{name}{MODELS}`, which containers "
            "mount, and a Containerfile makes one image",
            hint="to export an image that holds them, include the same stages in another stage, without "
            'models = "mount" (models.mount = false where `from` inherits it)',
        )


def _check_user(composition: Composition) -> None:
    """Raise DefinitionError if steps, which run as root, would leave root to an image that may name another user."""
    if any(isinstance(spec.work, RunStep) for spec in composition.root) and not composition.config.user:
        raise DefinitionError(
            f"{composition.stage.file}: its steps run as root, and a Containerfile cannot return to the user of the "
            "registry's image below",
            hint="name the user of the image in [config]: user",
        )


def _wheels_of(specs: Sequence[Spec]) -> tuple[list[Artifact], list[Compile]]:
    works = [spec.work for spec in specs if isinstance(spec.work, PackWheels)]
    artifacts = [artifact for work in works for artifact in work.wheels if artifact.is_wheel]
    return artifacts, [item for work in works for item in work.compiled]


def _root_namer(stage: str) -> Callable[[str], str]:
    """Return a function that names root stages: the image keeps the stage's name, so its own root gets a suffix."""
    return lambda name: f"{name}-root" if name == stage else name


def _render(composition: Composition, project: Project, containerfile: ContainerfileBuilder) -> str:
    name, options = composition.stage.name, containerfile.options
    file, tag, ignore = options.file, f"{project.name}-{name}", ignore_path(options)
    head = (
        f"{MARK} -- {name}`, and yours to change: nothing here needs buildkit.\n"
        f"# The stage `{name}` for {project.target.arch}. Build it in the folder of the repository:\n#\n"
        f"#   docker build --file {file} --tag {tag} .\n"
        f"#   podman build --format docker --ignorefile {ignore} --file {file} --tag {tag} .\n"
        f"#   buildah build --layers --format docker --ignorefile {ignore} --file {file} --tag {tag} .\n#\n"
        "# (--format docker: images of the OCI format have no place for HEALTHCHECK)\n"
    )
    arguments = "".join(
        f"\n# {comment}\nARG {name}={quote_word(default)}"
        for name, (default, comment) in containerfile.arguments.items()
    )
    builds = "\n".join(build.render() for build in containerfile.builds)
    containerfile.files.append(SideFile(path=ignore, text=_ignore_file(containerfile)))
    return f"{head}{arguments}\n\n{builds}" if arguments else f"{head}\n{builds}"


def _ignore_file(containerfile: ContainerfileBuilder) -> str:
    """Render the ignore file: it excludes everything that the Containerfile does not read."""
    reads = sorted({containerfile.options.folder, *containerfile.reads} if containerfile.files else containerfile.reads)
    kept = "".join(f"!{path}\n" for path in reads)
    return f"{MARK}`\n*\n{kept}**/.git\n**/__pycache__\n**/*.pyc\n{containerfile.options.ignored}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
