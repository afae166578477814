"""Which images a repository makes: its Containerfiles, and the services of its compose file that are built."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from buildkit.adopt.compose import BuiltService, ComposeFile, parse_compose
from buildkit.adopt.draft import Leftover
from buildkit.adopt.survey import CONTAINERFILES, Survey
from buildkit.declare.instructions import ParsedContainerfile, SourceStage, read_containerfile
from buildkit.errors import DefinitionError
from buildkit.tools.git import list_files

_RESERVED = ("base", "builder", "models")
_GENERAL = ("docker", "deploy", ".docker", "build", "ci", "containers")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOptions:
    """``files`` are Containerfiles, ``target`` a build stage of one, ``name`` the new stage; each is optional.

    ``context`` is the folder that sources of ``COPY`` are relative to; ``into`` is another folder to write to. Both are
    relative to the repository.
    """

    files: tuple[str, ...] = ()
    target: str = ""
    name: str = ""
    context: str = ""
    into: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """What an image is made from: a build stage of a Containerfile, for the stage ``name``.

    ``services`` are those of a compose file that run it.
    """

    name: str
    file: str
    context: str
    target: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    services: tuple[BuiltService, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSources:
    """The images of a repository, the compose file that names them, and what is left of it to a person."""

    images: tuple[ImageSource, ...] = ()
    compose: ComposeFile | None = None
    leftovers: tuple[Leftover, ...] = ()


def find_sources(found: Survey, options: InitOptions) -> ImageSources:
    """Return the images that are asked for, or those that are found; none, if there is no Containerfile.

    Raises DefinitionError for a file that is not there, and for a name or a target with several images.
    """
    for file in options.files:
        if not (found.folder / file).is_file():
            raise DefinitionError(f"{file}: there is no such file", hint="name a Containerfile: --file PATH")
    sources = ImageSources() if options.files else _of_compose(found, options)
    files = options.files or ((found.containerfile,) if found.containerfile and not sources.images else ())
    if files:
        named = _name_files(files, options.name)
        images = [_of_file(found, file, name, options) for name, file in named.items()]
        sources = ImageSources(images=tuple(images), leftovers=sources.leftovers)
    if len(sources.images) > 1 and (options.name or options.target):
        names = ", ".join(image.file for image in sources.images)
        raise DefinitionError(f"--name and --target are for one Containerfile, not {names}", hint="add --file PATH")
    return sources


def _of_compose(found: Survey, options: InitOptions) -> ImageSources:
    if not found.compose or options.target:
        return ImageSources()
    compose = parse_compose(found.read(found.compose), found.compose)
    groups: dict[object, list[BuiltService]] = {}
    left = list(compose.leftovers)
    for service in compose.services:
        if found.exists(service.file):
            groups.setdefault(_identify(found, service), []).append(service)
            continue
        line = compose.yaml.line("services", service.name, "build")
        text = f"service {service.name}: build"
        left.append(Leftover(file=found.compose, line=line, text=text, advice=f"there is no {service.file} here"))
    taken = [service.name for group in groups.values() for service in group]
    images = []
    for group in groups.values():
        name = _stage_name(group[0].name) if len(group) == 1 else _free_name(taken)
        taken.append(name)
        first = group[0]
        image = ImageSource(
            name=(options.name if len(groups) == 1 == len(group) else "") or name,
            file=first.file, context=first.context, target=first.target, arguments=first.arguments,
            services=tuple(group),
        )  # fmt: skip
        images.append(image)
    return ImageSources(images=tuple(images), compose=compose, leftovers=tuple(left))


def _identify(found: Survey, service: BuiltService) -> object:
    """Return what makes the image of a service: services with equal ones share it."""
    stage = choose_target(read_containerfile(found.read(service.file), service.file), service.target)
    return service.context, service.file, stage.line, tuple(sorted(service.arguments.items()))


def _free_name(taken: Iterable[str]) -> str:
    return next(name for name in ("app", "common", "shared-app", "all-services") if name not in taken)


def _stage_name(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "app"
    return f"{name}-app" if name in _RESERVED else name


def stage_of(service: BuiltService) -> str:
    """Return the name of the stage of a service."""
    return _stage_name(service.name)


def _name_files(files: Sequence[str], wanted: str) -> dict[str, str]:
    """Return the files by the names of their stages: that of their folder, or ``app``."""
    if wanted and len(files) == 1:
        return {wanted: files[0]}
    named: dict[str, str] = {}
    for file in files:
        folder = posixpath.basename(posixpath.dirname(file))
        name = _stage_name(folder) if folder and folder not in _GENERAL else "app"
        while name in named:
            name = f"{name}-2"
        named[name] = file
    return named


def _of_file(found: Survey, file: str, name: str, options: InitOptions) -> ImageSource:
    context = options.context or _guess_context(found, file)
    return ImageSource(name=name, file=file, context=posixpath.normpath(context), target=options.target)


def _guess_context(found: Survey, file: str) -> str:
    """Return the folder that has what the file copies: that of the repository, or else the file's own."""
    folder = posixpath.dirname(file)
    if not folder:
        return "."
    sources = list(_sources_of(read_containerfile(found.read(file), file)))
    counts = [sum(found.exists(posixpath.join(place, source)) for source in sources) for place in (".", folder)]
    return folder if counts[1] > counts[0] else "."


def _sources_of(file: ParsedContainerfile) -> Iterator[str]:
    for stage in file.stages:
        for instruction in stage.instructions:
            if instruction.name in ("COPY", "ADD") and instruction.flag("from") is None:
                words = instruction.words or tuple(instruction.value.split())
                yield from (word.lstrip("/") for word in words[:-1] if word not in (".", "./"))


def choose_target(file: ParsedContainerfile, wanted: str) -> SourceStage:
    """Return a build stage by its name; the last one without. Raises DefinitionError."""
    if not wanted:
        return file.stages[-1]
    for stage in file.stages:
        if stage.name.lower() == wanted.lower():
            return stage
    names = ", ".join(stage.name for stage in file.stages if stage.name) or "none has a name"
    raise DefinitionError(f"{file.path}: there is no build stage `{wanted}`", hint=f"its stages: {names}")


def find_deeper_files(found: Survey) -> tuple[str, ...]:
    """Return the Containerfiles below the folder that git knows, sorted."""
    listed = list_files(found.folder, ".")
    names = (*listed.tracked, *listed.untracked) if listed else ()
    wanted = {posixpath.basename(name) for name in CONTAINERFILES}
    return tuple(sorted(name for name in names if posixpath.basename(name) in wanted))
