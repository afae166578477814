"""Read a Containerfile as instructions with their lines. Pure.

It follows the Dockerfile reference: parser directives, comments, continued lines, flags, the JSON form and
here-documents. Variables are left as they are written. The library for this, dockerfile-parse, knows no
here-documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.errors import DefinitionError

_DIRECTIVE = re.compile(r"#\s*(?P<name>syntax|escape|check)\s*=\s*(?P<value>\S+)\s*", re.IGNORECASE)
_HEREDOC = re.compile(
    r"(?:^|[\s;&|(])\d*<<(?P<chomp>-?)(?P<quote>[\"']?)(?P<end>[A-Za-z_][\w.]*)(?P=quote)(?=$|[\s;&|)])"
)
_FLAG = re.compile(r"--(?P<name>[a-z][a-z-]*)(?:=(?P<value>(?:\"[^\"]*\"|'[^']*'|\S)*))?(?:\s+|$)")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
KNOWN = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A here-document of an instruction: its delimiter, its text, and whether variables in it are expanded."""

    end: str
    text: str
    expands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """An instruction: its ``name`` in capitals, its ``flags``, and its ``value`` on one line without them.

    ``line`` is its first line, counted from 1.
    """

    name: str
    value: str
    line: int
    flags: tuple[tuple[str, str], ...] = ()
    heredocs: tuple[Heredoc, ...] = ()

    def flag(self, name: str) -> str | None:
        """Return the value of a flag, or None if it is not given."""
        return dict(self.flags).get(name)

    @property
    def words(self) -> tuple[str, ...] | None:
        """The words of the JSON form (``["a", "b"]``); None for the other form."""
        try:
            parsed = json.loads(self.value)
        except (ValueError, RecursionError):
            return None
        is_words = isinstance(parsed, list) and all(isinstance(word, str) for word in parsed)
        return tuple(parsed) if is_words else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStage:
    """A ``FROM`` and what follows it: ``base`` as it is written, ``name`` (empty without AS), and its instructions."""

    base: str
    name: str
    line: int
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedContainerfile:
    """The build stages of a file, and the defaults of the arguments before the first of them."""

    path: str
    arguments: tuple[tuple[str, str], ...]
    stages: tuple[SourceStage, ...]


def read_containerfile(text: str, path: str) -> ParsedContainerfile:
    """Parse a Containerfile; ``path`` is for messages. Raises DefinitionError with the line of what cannot be read."""
    arguments: list[tuple[str, str]] = []
    stages: list[SourceStage] = []
    body: list[Instruction] = []
    head: Instruction | None = None
    for instruction in _read_instructions(text, path):
        if instruction.name == "FROM":
            if head is not None:
                stages.append(_make_stage(head, body, path))
            head, body = instruction, []
        elif head is not None:
            body.append(instruction)
        elif instruction.name == "ARG":
            name, _, default = instruction.value.partition("=")
            arguments.append((name.strip(), _unquote(default.strip())))
        else:
            raise _refuse(path, instruction.line, f"{instruction.name} comes before the first FROM")
    if head is None:
        raise DefinitionError(f"{path}: there is no FROM", hint="does the path name a Containerfile?")
    return ParsedContainerfile(path=path, arguments=tuple(arguments), stages=(*stages, _make_stage(head, body, path)))


def _make_stage(head: Instruction, body: list[Instruction], path: str) -> SourceStage:
    words = head.value.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise _refuse(path, head.line, f"`FROM {head.value}` is not FROM IMAGE [AS NAME]")
    name = words[2] if len(words) == 3 else ""
    return SourceStage(base=words[0], name=name, line=head.line, instructions=tuple(body))


def _read_instructions(text: str, path: str) -> Iterator[Instruction]:
    lines = text.removeprefix("\ufeff").splitlines()
    escape = _read_escape(lines)
    number = 0
    while number < len(lines):
        first = number
        if _is_ignored(lines[number]):
            number += 1
            continue
        joined, number = _join(lines, number, escape)
        name, _, rest = joined.strip().partition(" ")
        name, rest = name.upper(), rest.strip()
        if name not in KNOWN:
            raise _refuse(path, first + 1, f"`{name[:40]}` is not an instruction")
        heredocs: list[Heredoc] = []
        if name in _WITH_HEREDOCS:
            for found in _HEREDOC.finditer(rest):
                heredoc, number = _read_heredoc(found, lines, number, path)
                heredocs.append(heredoc)
        flags, value = _split_flags(rest)
        yield Instruction(name=name, value=value, line=first + 1, flags=flags, heredocs=tuple(heredocs))


def _read_escape(lines: list[str]) -> str:
    """Return the escape character; directives stand before everything else, comments too."""
    for line in lines:
        found = _DIRECTIVE.fullmatch(line.strip())
        if found is None:
            break
        if found["name"].lower() == "escape" and found["value"] in ("\\", "`"):
            return found["value"]
    return "\\"


def _is_ignored(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _join(lines: list[str], number: int, escape: str) -> tuple[str, int]:
    """Return a line with those that continue it, and the number of the line after them."""
    parts: list[str] = []
    while number < len(lines):
        line = lines[number]
        number += 1
        if parts and _is_ignored(line):
            continue
        stripped = line.rstrip()
        if not stripped.endswith(escape):
            parts.append(stripped)
            break
        parts.append(stripped.removesuffix(escape).rstrip())
    return " ".join(part.strip() if place else part for place, part in enumerate(parts)), number


def _read_heredoc(found: re.Match[str], lines: list[str], number: int, path: str) -> tuple[Heredoc, int]:
    start, kept = number, list[str]()
    while number < len(lines):
        line = lines[number].lstrip("\t") if found["chomp"] else lines[number]
        number += 1
        if line == found["end"]:
            text = "".join(f"{text}\n" for text in kept)
            return Heredoc(end=found["end"], text=text, expands=not found["quote"]), number
        kept.append(line)
    raise _refuse(path, start, f"the here-document {found['end']} has no end")


def _split_flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags = []
    while found := _FLAG.match(rest):
        flags.append((found["name"], _unquote(found["value"] or "")))
        rest = rest[found.end() :]
    return tuple(flags), rest


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _refuse(path: str, line: int, what: str) -> DefinitionError:
    return DefinitionError(f"{path}:{line}: {what}")
