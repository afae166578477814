"""A Containerfile as a root: its settings, and what it takes from elsewhere: images, and files of its context. Pure."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from buildkit.declare.image_names import full_name
from buildkit.declare.schema import (
    BooleanSchema,
    KeySchema,
    ListSchema,
    MapSchema,
    TextSchema,
    ValueLocation,
    suggest_word,
)
from buildkit.errors import DefinitionError
from buildkit.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from buildkit.declare.instructions import Instruction, ParsedContainerfile, SourceStage

_PATH = TextSchema(r"(?!/)(?!(?:[^\0]*/)?\.\.(?:/|$))[^\0]+", "a path in the repository (relative, without `..`)")
_SECRET = TextSchema(r"[a-z][a-z0-9_-]{0,63}", "a secret's name (lower case letters, digits, `_`, `-`)")
WITH_CONTAINERFILE = ("context", "target", "args", "network", "secrets")
"""Keys of `[root]` that only a Containerfile takes."""
KEYS = {
    "containerfile": KeySchema(_PATH, "a Containerfile, which buildah builds"),
    "context": KeySchema(_PATH, "folder that its COPY takes files from (default: the repository)"),
    "target": KeySchema(TextSchema(r"[^\0\s]+", "a stage's name"), "its stage that is built (default: the last)"),
    "args": KeySchema(MapSchema(TextSchema()), "values of its ARGs"),
    "network": KeySchema(BooleanSchema(), "whether its RUNs may use the network (default: false)"),
    "secrets": KeySchema(ListSchema(_SECRET), "secrets that its RUN --mount=type=secret may name"),
}
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")
_ALLOW = "say `network = true` in [root]"
_NAME = "name it by lower case letters, digits, `_` and `-`, and list it in [root]"
_URL = re.compile(r"[a-z+]+://|git@")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerfileRoot:
    """A root that buildah builds from ``file``; paths are relative to the project, ``secrets`` are names."""

    file: str
    context: str = "."
    target: str = ""
    args: tuple[tuple[str, str], ...] = ()
    network: bool = False
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSource:
    """A source of a COPY or ADD, or of a mount, relative to the context (a pattern of Go's), and its line."""

    pattern: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerfileInputs:
    """What a Containerfile takes: ``images``, whole names by how they are written; ``base``, that of the stage built.

    ``base`` is empty for ``scratch``. ``sources`` are of the context; ``whole`` says that they are not all known.
    """

    images: Mapping[str, str]
    base: str
    sources: tuple[ContextSource, ...]
    whole: bool


def parse_containerfile_root(root: Mapping[str, Any], place: ValueLocation) -> ContainerfileRoot | None:
    """Return the root that the table names, or None; keys that have no effect are reported."""
    if "containerfile" not in root:
        for key in WITH_CONTAINERFILE:
            if key in root:
                place.at(key).report("has no effect without `containerfile`")
        return None
    for key in root:
        if key not in KEYS:
            place.at(key.replace("_", "-")).report("has no effect on a Containerfile", "write it into that file")
    return ContainerfileRoot(
        file=posixpath.normpath(root["containerfile"]),
        context=posixpath.normpath(root.get("context", ".")),
        target=root.get("target", ""),
        args=tuple(root.get("args", ())),
        network=root.get("network", False),
        secrets=tuple(sorted(set(root.get("secrets", ())))),
    )


def find_containerfile_inputs(text: str, root: ContainerfileRoot) -> ContainerfileInputs:
    """Return what the stages up to the one that is built take. Raises DefinitionError with the line at fault."""
    from buildkit.declare.instructions import read_containerfile  # few roots are made so, and every build comes here

    parsed = read_containerfile(text, root.file)
    _check_arguments(parsed, root)
    stages = parsed.stages[: _find_target(parsed, root) + 1]
    values = {**dict(parsed.arguments), **dict(root.args)}
    images: dict[str, str] = {}
    bases: list[str] = []
    sources: list[ContextSource] = []
    for number, stage in enumerate(stages):
        known = _names(stages[:number])
        base = _expand(stage, values, root.file)
        if base.lower() in known:
            bases.append(bases[known[base.lower()]])
        elif base == "scratch":
            bases.append("")
        else:
            bases.append(full_name(base))
            images[stage.base] = full_name(base)
        _check_network(stage, root)
        _check_secrets(stage, root)
        taken = (image for instruction in stage.instructions for image in _foreign(instruction))
        images |= {image: full_name(image) for image in taken if image.lower() not in known}
        sources += [
            ContextSource(pattern=pattern, line=instruction.line)
            for instruction in stage.instructions
            for pattern in _sources(instruction)
        ]
    whole = any("$" in source.pattern for source in sources)
    return ContainerfileInputs(images=images, base=bases[-1], sources=tuple(sources), whole=whole)


def find_heredoc(text: str, root: ContainerfileRoot) -> int:
    """Return the line of the first here-document in the stages up to the one that is built; 0 if there is none."""
    from buildkit.declare.instructions import read_containerfile

    parsed = read_containerfile(text, root.file)
    instructions = (one for stage in parsed.stages[: _find_target(parsed, root) + 1] for one in stage.instructions)
    return next((one.line for one in instructions if one.heredocs), 0)


def _names(stages: tuple[SourceStage, ...]) -> dict[str, int]:
    """Return the stages by what a later one may call them: names, and numbers from 0."""
    numbers = {str(number): number for number in range(len(stages))}
    return numbers | {stage.name.lower(): number for number, stage in enumerate(stages) if stage.name}


def _find_target(parsed: ParsedContainerfile, root: ContainerfileRoot) -> int:
    names = _names(parsed.stages)
    if not root.target:
        return len(parsed.stages) - 1
    if root.target.lower() not in names:
        hint = suggest_word(root.target, list(names)) or f"it has {', '.join(names)}"
        raise DefinitionError(f"{root.file}: there is no stage `{root.target}`, which `target` names", hint=hint)
    return names[root.target.lower()]


def _check_arguments(parsed: ParsedContainerfile, root: ContainerfileRoot) -> None:
    inside = (i.value for stage in parsed.stages for i in stage.instructions if i.name == "ARG")
    known = {name for name, _ in parsed.arguments}
    known |= {word.partition("=")[0] for value in inside for word in value.split()}
    for name, _ in root.args:
        if name not in known:
            what = f"{root.file}: there is no ARG {name}, which `args` gives a value"
            raise DefinitionError(what, hint=suggest_word(name, sorted(known)))


def _expand(stage: SourceStage, values: Mapping[str, str], file: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        given = values.get(name) or found[3]
        if not given:
            raise DefinitionError(
                f"{file}:{stage.line}: FROM {stage.base}: {name} has no value, so no image is known",
                hint=f'give it one in [root]: args = {{ {name} = "..." }}',
            )
        return given

    return _VARIABLE.sub(value, stage.base)


def _foreign(instruction: Instruction) -> Iterator[str]:
    """Yield the stages and images that files are taken from."""
    if instruction.name in ("COPY", "ADD") and (taken := instruction.flag("from")):
        yield taken
    yield from (options["from"] for options in _mounts(instruction) if options.get("from"))


def _sources(instruction: Instruction) -> Iterator[str]:
    """Yield the patterns of the context's files that an instruction reads."""
    if instruction.name in ("COPY", "ADD") and not instruction.flag("from"):
        inline = {f"<<{heredoc.end}" for heredoc in instruction.heredocs}
        for word in _source_words(instruction):
            bare = word.replace('"', "").replace("'", "").replace("<<-", "<<")
            if bare not in inline and not (instruction.name == "ADD" and _URL.match(word)):
                yield word
    for options in _mounts(instruction):
        if options.get("type", "bind") == "bind" and not options.get("from"):
            yield options.get("source") or options.get("src") or "."


def _source_words(instruction: Instruction) -> tuple[str, ...]:
    return (instruction.words or _split(instruction.value))[:-1]


def _check_network(stage: SourceStage, root: ContainerfileRoot) -> None:
    """Refuse what uses the network by itself in a root without: neither key nor lock says what it got."""
    for instruction in () if root.network else stage.instructions:
        where = f"{root.file}:{instruction.line}"
        if instruction.name == "RUN" and instruction.flag("network") not in (None, "none", "default"):
            raise DefinitionError(f"{where}: this RUN asks for a network", hint=_ALLOW)
        for word in _source_words(instruction) if instruction.name == "ADD" else ():
            if _URL.match(word):
                raise DefinitionError(
                    f"{where}: ADD fetches `{word}`", hint=f"copy a file of the repository, or {_ALLOW}"
                )
            if word.startswith("$"):
                what = f"{where}: ADD fetches what `{word}` names, if it is a URL"
                raise DefinitionError(what, hint=f"write COPY for a file, or {_ALLOW}")


def _check_secrets(stage: SourceStage, root: ContainerfileRoot) -> None:
    """Refuse a secret that no build would give; one with ``required=false`` may be missing."""
    for instruction in stage.instructions:
        for options in _mounts(instruction):
            if options.get("type") != "secret" or options.get("required") in ("false", "0"):
                continue
            target = options.get("target") or options.get("dst") or options.get("destination") or ""
            name = options.get("id") or posixpath.basename(target)
            if not name or name in root.secrets or "$" in name:  # buildah refuses the first
                continue
            listed = ", ".join(f'"{one}"' for one in (*root.secrets, name))
            fits = re.fullmatch(_SECRET.pattern, name)
            hint = f"list it in [root]: secrets = [{listed}]" if fits else _NAME
            what = f"`secrets` in [root] does not list `{name}`, which this RUN mounts"
            raise DefinitionError(f"{root.file}:{instruction.line}: {what}", hint=hint)


def _split(value: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(value))
    except ValueError:
        return tuple(value.split())


def _mounts(instruction: Instruction) -> Iterator[dict[str, str]]:
    for name, value in instruction.flags if instruction.name == "RUN" else ():
        if name == "mount":
            yield {key: text for key, _, text in (part.partition("=") for part in value.split(","))}


def matches(path: str, pattern: str) -> bool:
    """Tell whether a path of the context is what a source names, or lies below it; ``*`` does not cross folders."""
    clean = posixpath.normpath(pattern.lstrip("/") or ".")
    if clean == ".":
        return True
    parts = [re.sub(r"\\\*|\*", "[^/]*", re.escape(part)).replace(r"\?", "[^/]") for part in clean.split("/")]
    return re.fullmatch("/".join(parts) + r"(?:/.*)?", path, re.DOTALL) is not None
