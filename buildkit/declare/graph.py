"""The graph of stages that ``from`` and ``include`` define."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import field, fields, replace
from pathlib import Path

from buildkit.declare.apt_archives import PublicKey, parse_public_key
from buildkit.declare.arguments import FindReady, apply_arguments
from buildkit.declare.gpu_request import NO_GPU, GpuRequest
from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.schema import suggest_word
from buildkit.declare.stage import Config, Running, Stage
from buildkit.declare.stage_file import parse_stage, with_patterns
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass

MODELS = "-models"  # behind the name of a stage, the image that its containers mount


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedStage:
    """A stage with its inheritance resolved.

    ``chain`` are the stages that extend the root, lowest first; ``parts`` those whose own layers the image has;
    ``config`` is merged along ``from``; ``running`` and ``gpu`` are those of the nearest stage along ``from`` that sets
    them; ``gpu`` is None without a request. ``tuned`` is the nearest that sets ``framework``. ``args`` are the build
    arguments that were used along ``from``, by stage.
    ``models_stage`` is the stage of the image that containers mount, if models are no part of this one.
    """

    stage: Stage
    chain: tuple[Stage, ...]
    parts: tuple[Stage, ...]
    config: Config
    running: Running = field(default_factory=Running)
    args: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    models_stage: str = ""
    gpu: GpuRequest | None = None
    tuned: Stage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Every stage of a project, checked: no unknown name, no cycle."""

    stages: Mapping[str, Stage]

    def get(self, name: str) -> Stage:
        """Return the stage. Raises DefinitionError, with the most similar name as the hint."""
        if name not in self.stages:
            raise DefinitionError(f"there is no stage `{name}`", hint=_suggest_stage(name, list(self.stages)))
        return self.stages[name]

    @property
    def read_files(self) -> tuple[str, ...]:
        """The files of patterns, keys and served models that stage files name, relative to the project."""
        roots = [stage.debian for stage in self.stages.values() if stage.debian]
        patterns = (debian.exclude_file for debian in roots if debian.exclude_file)
        served = (file for stage in self.stages.values() if stage.serve for file in stage.serve.read_files)
        keys = dict.fromkeys(key for stage in self.stages.values() for key in stage.archives.keys)
        return (*patterns, *served, *keys)

    def resolve(self, name: str) -> ResolvedStage:
        """Return the stage with its inheritance resolved. Raises DefinitionError for an unknown name."""
        stage = self.get(name)
        if stage.models_of:
            models = (part for part in self._parts(self.get(stage.models_of)) if part.models)
            parts = tuple(replace(part, wheels=(), choices=(), prefer=(), copy=()) for part in models)
            return ResolvedStage(stage=stage, chain=(), parts=parts, config=Config())
        chain = self._chain(stage)
        config = Config()
        for link in chain:
            config = _merge(config, link.config)
        gpu = next((link.gpu for link in reversed(chain) if link.gpu), NO_GPU)
        running = next((link.running for link in reversed(chain) if link.running), Running())
        rooted = tuple(link for link in chain if link.has_root or link.apt or link.run)
        parts = tuple(self._parts(stage))
        args = {link.name: link.used_args for link in chain if link.used_args}
        return ResolvedStage(
            stage=stage,
            chain=rooted,
            parts=parts,
            config=config,
            running=running,
            args=args,
            models_stage=self.models_stage(name),
            gpu=None if gpu == NO_GPU else gpu,
            tuned=self._tuned(chain, parts),
        )

    def models_stage(self, name: str) -> str:
        """Return the stage of the models that a stage's containers mount; empty if its image has them, or none."""
        own = f"{name}{MODELS}"
        return own if own in self.stages and self.stages[own].models_of == name else ""

    def _tuned(self, chain: tuple[Stage, ...], parts: tuple[Stage, ...]) -> Stage | None:
        """Return the stage whose ``[framework]`` an image has. Raises DefinitionError for one that it would lack."""
        found = next((link for link in reversed(chain) if link.framework), None)
        lost = next((part for part in parts if part.framework), None)
        if found is None and lost is not None:
            what = f"does not reach `{chain[-1].name}`, which includes this stage: it follows `from`, as `config` does"
            hint = f"move it into {chain[-1].file}"
            raise DefinitionError.of([Problem(file=lost.file, key="framework", what=what, hint=hint)])
        return found

    def _chain(self, stage: Stage) -> tuple[Stage, ...]:
        below = self._chain(self.stages[stage.base]) if stage.base else ()
        return (*below, stage)

    def _parts(self, stage: Stage) -> dict[Stage, None]:
        parts: dict[Stage, None] = {}
        for name in (stage.base, *stage.include):
            if name:
                parts |= self._parts(self.stages[name])
        return parts | {stage: None}


def load_graph(folder: Path, args: Mapping[str, str] | None = None, find_ready: FindReady | None = None) -> Graph:
    """Read ``stages/*/stage.toml`` below ``folder``; raises DefinitionError with the problems of every file.

    ``args`` are values of build arguments, over those of the environment; see `apply_arguments`.
    """
    stages: dict[str, Stage] = {}
    problems: list[Problem] = []
    paths = sorted(folder.glob("stages/*/stage.toml"))
    for path in paths:
        name, file = path.parent.name, path.relative_to(folder).as_posix()
        try:
            stages[name] = _read_named(parse_stage(path.read_text("utf-8"), name=name, file=file), folder)
        except DefinitionError as error:
            problems += error.problems
        except UnicodeDecodeError:
            problems.append(Problem(file=file, what="is not UTF-8 text"))
    if not paths:
        raise DefinitionError(
            f"no stages: {folder / 'stages'} holds no NAME/stage.toml",
            hint="run: nox -s init, which writes stages for what is here",
        )
    graph = make_graph(stages, problems, {path.parent.name for path in paths})
    return Graph(stages=apply_arguments(graph.stages, args or {}, os.environ, find_ready))


def _read_named(stage: Stage, folder: Path) -> Stage:
    """Return the stage with what the files hold that it names."""
    return _read_served(_read_patterns(_read_keys(stage, folder), folder), folder)


def _read_keys(stage: Stage, folder: Path) -> Stage:
    """Return the stage with the public keys of its archives."""
    if not stage.archives.keys:
        return stage

    def read(file: str) -> PublicKey:
        try:
            return parse_public_key(file, (folder / file).read_text("utf-8"))
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except ValueError as error:
            why = "is not an armored public key" if isinstance(error, UnicodeDecodeError) else str(error)
        problem = Problem(file=stage.file, key="root", what=f"{file} {why}", hint="gpg --export --armor KEY > FILE.asc")
        raise DefinitionError.of([problem])

    archives = stage.archives.with_keys(read)
    if stage.debian is None:
        return replace(stage, image_archives=archives)
    return replace(stage, debian=replace(stage.debian, archives=archives))


def _read_patterns(stage: Stage, folder: Path) -> Stage:
    """Return the stage with the patterns that a file of its folder lists."""
    listed = stage.debian.exclude_file if stage.debian else ""
    if not listed:
        return stage
    try:
        return with_patterns(stage, (folder / listed).read_text("utf-8-sig"))
    except OSError as error:
        why = f"{listed} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        why = f"{listed} is not UTF-8 text"
    raise DefinitionError.of([Problem(file=stage.file, key="root.exclude-file", what=why)])


def _read_served(stage: Stage, folder: Path) -> Stage:
    """Return the stage with the configurations, scripts and other texts of the models that it serves."""
    if not stage.serve or not stage.serve.read_files:
        return stage
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for file in stage.serve.read_files:
        try:
            texts[file] = (folder / file).read_text("utf-8")
        except OSError as error:
            problems.append(Problem(file=stage.file, key="serve", what=f"{file} cannot be read: {error.strerror}"))
        except UnicodeDecodeError:
            problems.append(Problem(file=stage.file, key="serve", what=f"{file} is not UTF-8 text"))
    if problems:
        raise DefinitionError.of(problems)
    return replace(stage, serve=stage.serve.with_texts(texts))


def make_graph(stages: Mapping[str, Stage], problems: Iterable[Problem] = (), known: Set[str] = frozenset()) -> Graph:
    """Check names and cycles. Raises DefinitionError with everything found, and the ``problems`` found before.

    ``known`` are the names of stages that exist, even if their files have problems: other stages may refer to them.
    """
    all_problems = list(problems)
    for stage in stages.values():
        for key, name in (("from", stage.base), *(("include", name) for name in stage.include)):
            if name and name not in stages and name not in known:
                all_problems.append(_unknown(stage, key, name, sorted(known | stages.keys())))
    all_problems += _cycles(stages)
    if all_problems:
        raise DefinitionError.of(all_problems)
    return _with_models(Graph(stages=stages))


def _with_models(graph: Graph) -> Graph:
    """Return the graph with a stage for the models of every stage that mounts them."""
    stages, problems = dict(graph.stages), list[Problem]()
    for name, stage in graph.stages.items():
        chosen = (link.mount_models for link in reversed(graph._chain(stage)) if link.mount_models is not None)
        if not next(chosen, False):
            continue
        if not any(part.models for part in graph._parts(stage)):
            what = "there are no models to mount: neither this stage nor one that it includes has some"
            problems.append(Problem(file=stage.file, key="models", what=what, hint="name a `lock`, or `include` one"))
        elif f"{name}{MODELS}" in stages:
            what = f"the image of its models would be `{name}{MODELS}`, and there is such a stage"
            problems.append(Problem(file=stage.file, key="models", what=what, hint="rename that stage"))
        else:
            summary = f"models of {name}, which its containers mount"
            own = Stage(name=f"{name}{MODELS}", file=stage.file, summary=summary, sbom=True, models_of=name)
            stages[own.name] = own
    if problems:
        raise DefinitionError.of(problems)
    return Graph(stages=stages)


def _unknown(stage: Stage, key: str, name: str, names: list[str]) -> Problem:
    return Problem(file=stage.file, key=key, what=f"there is no stage `{name}`", hint=_suggest_stage(name, names))


def _suggest_stage(name: str, names: list[str]) -> str:
    return suggest_word(name, names) or f"stages are {', '.join(names)}"


def _cycles(stages: Mapping[str, Stage]) -> list[Problem]:
    done: set[str] = set()
    problems: list[Problem] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            loop = " → ".join((*path[path.index(name) :], name))
            problems.append(Problem(file=stages[name].file, what=f"stages inherit from each other in a cycle: {loop}"))
        elif name not in done:
            for below in (stages[name].base, *stages[name].include):
                if below in stages:
                    visit(below, (*path, name))
            done.add(name)

    for name in stages:
        visit(name, ())
    return problems


def _merge(below: Config, above: Config) -> Config:
    own = {field.name: getattr(above, field.name) for field in fields(above)}
    changed = {key: value for key, value in own.items() if value}
    for key in ("env", "labels"):
        changed[key] = tuple((dict(getattr(below, key)) | dict(own[key])).items())
    for key in ("ports", "volumes"):
        changed[key] = tuple(dict.fromkeys((*getattr(below, key), *own[key])))
    if above.entrypoint:
        changed["cmd"] = above.cmd  # an inherited command was meant for the inherited entrypoint
    return replace(below, **changed)


def find_choices(graph: Graph) -> dict[str, LockChoice]:
    """Return what stages take from locks of other tools, by the id that stands among a stage's ``wheels``."""
    found = (choice for stage in graph.stages.values() for choice in stage.choices)
    return {choice.id: choice for choice in found if choice.kind != "pyproject"}


def find_project_inputs(graph: Graph) -> dict[str, LockChoice]:
    """Return what stages take from a pyproject.toml, which is locked like an ``.in``, by the name of that input."""
    found = (choice for stage in graph.stages.values() for choice in stage.choices)
    return {choice.input: choice for choice in found if choice.kind == "pyproject"}
