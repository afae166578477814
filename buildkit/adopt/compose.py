"""Read a compose file: which services are built, and from what. Pure.

It follows the Compose specification (https://github.com/compose-spec/compose-spec).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildkit.adopt.draft import Leftover
from buildkit.adopt.yamlfile import YamlFile, as_list, as_table, parse_yaml
from buildkit.errors import DefinitionError

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_VARIABLE = re.compile(
    r"\$(?:(?P<bare>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?::?(?P<how>[-?+])(?P<word>[^{}]*))?\}|\$)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltService:
    """A service that is built: its ``context``, ``file`` and ``target``, build arguments, and all its keys.

    Paths are relative to the repository; ``target`` is empty for the last build stage.
    """

    name: str
    context: str
    file: str
    target: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeFile:
    """A compose file: the services that are built, in its order, and the others, with what a person can do."""

    path: str
    services: tuple[BuiltService, ...]
    leftovers: tuple[Leftover, ...]
    yaml: YamlFile


def parse_compose(text: str, path: str) -> ComposeFile:
    """Parse a compose file; ``path`` is relative to the repository. Raises DefinitionError."""
    read = parse_yaml(text, path)
    services = as_table(as_table(read.value).get("services"))
    if not services:
        raise DefinitionError(f"{path}: it has no services", hint="name a Containerfile: nox -s init -- --file PATH")
    built, left = [], []
    for name, keys in services.items():
        if isinstance(keys, dict) and keys.get("build"):
            built.append(_read_service(str(name), keys, posixpath.dirname(path)))
            continue
        image = as_table(keys).get("image", "")
        advice = "services.toml runs images of registries beside yours, by digest (docs/services.md)"
        line = read.line("services", str(name))
        left.append(Leftover(file=path, line=line, text=f"service {name}: {image}".rstrip(": "), advice=advice))
    return ComposeFile(path=path, services=tuple(built), leftovers=tuple(left), yaml=read)


def _read_service(name: str, keys: Mapping[str, Any], folder: str) -> BuiltService:
    build = keys["build"]
    table = build if isinstance(build, dict) else {"context": build}
    context = posixpath.normpath(posixpath.join(folder, str(table.get("context", "."))))
    file = posixpath.normpath(posixpath.join(context, str(table.get("dockerfile", "Dockerfile"))))
    given = {key: value for key, value in as_pairs(table.get("args")) if value is not None}
    expanded = {key: text for key, value in given.items() if (text := interpolate(value)) is not None}
    return BuiltService(
        name=name, context=context, file=file, target=str(table.get("target") or ""), arguments=expanded, keys=keys
    )


def as_pairs(value: object) -> Iterator[tuple[str, str | None]]:
    """Yield names and values of a table, or of a list of ``NAME=VALUE``; a name alone has no value."""
    for name, text in as_table(value).items():
        yield name, None if text is None else _as_text(text)
    for item in as_list(value):
        name, equals, text = str(item).partition("=")
        yield name, text if equals else None


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def interpolate(text: str) -> str | None:
    """Replace variables by their defaults, and ``$$`` by ``$``; None if one has no default."""
    known = True

    def fill(found: re.Match[str]) -> str:
        nonlocal known
        if found[0] == "$$":
            return "$"
        known = known and found["how"] == "-"
        return found["word"] or ""

    filled = _VARIABLE.sub(fill, text)
    return filled if known else None
