"""Compose files (https://github.com/compose-spec/compose-spec): what watching needs of them, text to values.

Read are names, ``build``, ``profiles`` and ``develop.watch`` of services, with anchors, merge keys and ``${VARIABLE}``,
from several files with what they include and extend. Everything else is left to the program that starts the containers.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.declare.compose_merge import merge_files
from buildkit.declare.schema import ValueLocation, suggest_word
from buildkit.declare.yaml_growth import verify_growth
from buildkit.errors import DefinitionError, Problem

ACTIONS = ("rebuild", "restart", "sync", "sync+restart", "sync+exec")
_SYNCING = ("sync", "sync+restart", "sync+exec")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_-]")
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-?+])(?P<word>[^{}]*))?\})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeBuild:
    """How an image is built: the options of ``podman build`` that the compose file asks for.

    ``context`` and ``file`` are paths as written; ``inline`` is the text of a Containerfile.
    """

    context: str = "."
    file: str = ""
    inline: str = ""
    target: str = ""
    args: tuple[tuple[str, str | None], ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    network: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeWatch:
    """A rule of ``develop.watch``: ``path`` is normalised, relative to the project; ``exec`` is a command."""

    path: str
    action: str
    target: str = ""
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    initial_sync: bool = False
    exec: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeService:
    """A service of a compose file."""

    name: str
    build: ComposeBuild | None = None
    watch: tuple[ComposeWatch, ...] = ()
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeProject:
    """A compose file: the name under which its containers are labelled, and its services."""

    name: str
    services: tuple[ComposeService, ...]


def parse_compose(
    paths: Sequence[str], read: Callable[[str], str], *, folder: str, environment: Mapping[str, str]
) -> ComposeProject:
    """Read compose files, later ones over earlier ones; ``folder`` is the name of the first one's folder.

    ``read`` returns the text of a file by its path relative to that folder. Raises DefinitionError with every problem.
    """
    problems: list[Problem] = []

    def load(path: str) -> object:
        return _interpolate(_load(read(path), path), environment, ValueLocation(path, problems))

    place = ValueLocation(paths[0], problems)
    table = _table(merge_files(paths, load), place)
    services = _table(table.get("services") or {}, place.at("services"))
    read_services = [_service(str(key), value, place.at("services").at(str(key))) for key, value in services.items()]
    name = str(table.get("name") or environment.get("COMPOSE_PROJECT_NAME") or folder)
    if not services:
        place.report("has no services")
    if problems:
        raise DefinitionError.of(problems)
    return ComposeProject(name=_NOT_IN_NAMES.sub("", name.lower()).lstrip("_-"), services=tuple(read_services))


def _load(text: str, file: str) -> object:
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            verify_growth(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise DefinitionError.of([Problem(file=file, what=f"is not YAML: {what}")]) from None


def _interpolate(value: object, environment: Mapping[str, str], place: ValueLocation) -> object:
    """Return a value with its variables replaced, in keys of mappings nowhere, as the specification says."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _replace(found, environment, place), value)
    if isinstance(value, dict):
        return {key: _interpolate(item, environment, place.at(str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolate(item, environment, place.at(number)) for number, item in enumerate(value)]
    return value


def _replace(found: re.Match[str], environment: Mapping[str, str], place: ValueLocation) -> str:
    if found["escaped"]:
        return "$"
    name, how, word = found["plain"] or found["name"], found["how"] or "", found["word"] or ""
    value = environment.get(name)
    given = value is not None and (value != "" or not how.startswith(":"))
    if how.endswith("+"):
        return word if given else ""
    if how.endswith("?") and not given:
        place.report(
            f"needs the variable {name}{f': {word}' if word else ''}", f"{name}=… in the environment or in .env"
        )
    return (value or "") if given else word


def _table(value: object, place: ValueLocation) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    place.report("must be a mapping")
    return {}


def _service(name: str, value: object, place: ValueLocation) -> ComposeService:
    table = _table(value if value is not None else {}, place)
    build = table.get("build")
    develop = _table(table.get("develop") or {}, place.at("develop"))
    rules, where = develop.get("watch") or [], place.at("develop").at("watch")
    if not isinstance(rules, list):
        where.report("must be a list")
        rules = []
    service = ComposeService(
        name=name,
        build=_build(build, place.at("build")) if build is not None else None,
        watch=tuple(_rule(rule, where.at(number)) for number, rule in enumerate(rules)),
        profiles=_words(table.get("profiles"), place.at("profiles")),
    )
    for number, rule in enumerate(service.watch):
        if rule.action == "rebuild" and service.build is None:
            where.at(number).report("rebuilds a service that has no `build`", "add `build`, or use sync or restart")
    return service


_BUILD_KEYS = (
    "context", "dockerfile", "dockerfile_inline", "target", "args", "additional_contexts", "labels", "network", "tags",
)  # fmt: skip


def _build(value: object, place: ValueLocation) -> ComposeBuild:
    if isinstance(value, str):
        return ComposeBuild(context=value)
    table = _table(value, place)
    labels, contexts = _pairs(table, "labels", place), _pairs(table, "additional_contexts", place)
    return ComposeBuild(
        context=str(table.get("context") or "."),
        file=str(table.get("dockerfile") or ""),
        inline=str(table.get("dockerfile_inline") or ""),
        target=str(table.get("target") or ""),
        args=_pairs(table, "args", place),
        contexts=tuple((key, item or "") for key, item in contexts),
        labels=tuple((key, item or "") for key, item in labels),
        network=str(table.get("network") or ""),
        unread=tuple(sorted(str(key) for key in table if key not in _BUILD_KEYS and not str(key).startswith("x-"))),
    )


def _pairs(table: Mapping[str, Any], key: str, place: ValueLocation) -> tuple[tuple[str, str | None], ...]:
    """Return pairs of a mapping, or of a list of ``NAME=VALUE``; None for a name without a value."""
    value = table.get(key) or {}
    if isinstance(value, list):
        split = [str(item).partition("=") for item in value]
        return tuple((name, word if given else None) for name, given, word in split)
    return tuple((str(name), _text(word)) for name, word in _table(value, place.at(key)).items())


def _text(value: object) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


_RULE_KEYS = ("path", "action", "target", "ignore", "include", "initial_sync", "exec")


def _rule(value: object, place: ValueLocation) -> ComposeWatch:
    table = _table(value, place)
    for key in table:
        if key not in _RULE_KEYS and not str(key).startswith("x-"):
            place.at(str(key)).report("unknown key", suggest_word(str(key), list(_RULE_KEYS)))
    path, action, target = (str(table.get(key) or "") for key in ("path", "action", "target"))
    if not path:
        place.at("path").report("is missing: which file or folder to watch")
    if not action:
        place.at("action").report(f"is missing: one of {', '.join(ACTIONS)}")
    elif action not in ACTIONS:
        place.at("action").report(f"`{action}` is none of {', '.join(ACTIONS)}", suggest_word(action, list(ACTIONS)))
    if action in _SYNCING and not posixpath.isabs(target):
        place.at("target").report("must be an absolute path in the container", "where the files go")
    command = _table(table.get("exec") or {}, place.at("exec")).get("command") if table.get("exec") else None
    if action == "sync+exec" and not command:
        place.at("exec").report("is missing: `exec: { command: … }`")
    return ComposeWatch(
        path=posixpath.normpath(path or "."),
        action=action,
        target=posixpath.normpath(target) if target else "",
        ignore=_words(table.get("ignore"), place.at("ignore")),
        include=_words(table.get("include"), place.at("include")),
        initial_sync=table.get("initial_sync") is True,
        exec=_command(command),
    )


def _command(command: object) -> tuple[str, ...]:
    if isinstance(command, list):
        return tuple(map(str, command))
    return ("/bin/sh", "-c", command) if isinstance(command, str) else ()


def _words(value: object, place: ValueLocation) -> tuple[str, ...]:
    if value is None:
        return ()
    words = [value] if isinstance(value, str) else value
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return tuple(words)
    place.report("must be a list of patterns")
    return ()
