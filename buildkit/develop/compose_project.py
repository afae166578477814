"""A compose project on disk: its file, the rules of its services, and what its ignore files leave out."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from buildkit.declare.compose_file import ComposeBuild, ComposeProject, ComposeService, parse_compose
from buildkit.declare.containerignore import parse_ignore_file
from buildkit.errors import DefinitionError
from buildkit.running.watch_rules import Action, WatchRule

_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml", "podman-compose.yaml")
_CONTAINERFILES = ("Containerfile", "Dockerfile")


def find_compose(folder: Path) -> tuple[Path, ...]:
    """Return the compose file of a folder, by its usual names, and its override. Raises DefinitionError."""
    for name in _NAMES:
        if (folder / name).is_file():
            stem, _, suffix = name.rpartition(".")
            overrides = (folder / f"{stem}.override.{one}" for one in (suffix, "yaml", "yml"))
            return (folder / name, *[path for path in overrides if path.is_file()][:1])
    raise DefinitionError(f"{folder}: there is no compose file", hint="nox -s watch -- FILE names one")


def load_compose(paths: Sequence[Path]) -> ComposeProject:
    """Read compose files with variables of the environment and of ``.env`` beside the first. Raises DefinitionError."""
    folder = paths[0].absolute().parent
    names = [os.path.relpath(path.absolute(), folder) for path in paths]
    environment = {**_read_env(folder / ".env"), **os.environ}
    return parse_compose(names, lambda name: _read(folder / name), folder=folder.name, environment=environment)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        raise DefinitionError(f"{path}: {why}", hint="name a compose file: nox -s watch -- FILE") from None
    except UnicodeDecodeError:
        raise DefinitionError(f"{path}: not UTF-8 text") from None


def _read_env(path: Path) -> dict[str, str]:
    lines = _read(path).splitlines() if path.is_file() else []
    pairs = (line.removeprefix("export ").partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, given, value in pairs if given}


def select_rules(project: ComposeProject, names: Sequence[str]) -> Mapping[str, tuple[WatchRule, ...]]:
    """Return the rules of the named services, or of all that have some and no profile that is off.

    Raises DefinitionError.
    """
    known = {service.name: service for service in project.services}
    for name in names:
        if name not in known:
            raise DefinitionError(f"there is no service `{name}`", hint=f"there are {', '.join(known)}")
    chosen = [known[name] for name in names] if names else [one for one in project.services if _is_on(one)]
    found = {service.name: tuple(_rules(service)) for service in chosen if service.watch}
    if not found:
        hint = "give a service rules: develop: { watch: [{ action: sync, path: src, target: /app/src }] }"
        raise DefinitionError(f"{', '.join(names) or 'the compose file'}: there is nothing to watch", hint=hint)
    return found


def _is_on(service: ComposeService) -> bool:
    on = os.environ.get("COMPOSE_PROFILES", "").split(",")
    return not service.profiles or "*" in on or not set(service.profiles).isdisjoint(on)


def _rules(service: ComposeService) -> list[WatchRule]:
    return [
        WatchRule(
            service=service.name,
            path=rule.path,
            action=Action(rule.action),
            target=rule.target,
            ignore=rule.ignore,
            include=rule.include,
            initial_sync=rule.initial_sync,
            command=rule.exec,
        )
        for rule in service.watch
    ]


def load_ignored(folder: Path, build: ComposeBuild | None) -> Callable[[str], bool]:
    """Return whether a path, relative to the project at ``folder``, is left out of the service's build context.

    The ignore file is the first of NAME.dockerignore beside the Containerfile, .containerignore and .dockerignore in
    the context, as podman looks for it. Raises DefinitionError for a pattern that is none.
    """
    if build is None or "://" in build.context:
        return lambda _path: False
    context = folder / build.context
    file = find_containerfile(context, build)
    candidates = ([f"{file}.containerignore", f"{file}.dockerignore"] if file else []) + [
        str(context / ".containerignore"), str(context / ".dockerignore")
    ]  # fmt: skip
    place = next((Path(name) for name in candidates if Path(name).is_file()), None)
    if place is None:
        return lambda _path: False
    is_ignored = parse_ignore_file(_read(place), place.name)
    base = posixpath.normpath(build.context)

    def decide(path: str) -> bool:
        below = posixpath.relpath(path, base)
        return not below.startswith("../") and is_ignored(below)

    return decide


def find_containerfile(context: Path, build: ComposeBuild) -> Path | None:
    """Return the path of a service's Containerfile; None if the compose file holds its text, or there is none."""
    if build.inline:
        return None
    names = (build.file,) if build.file else _CONTAINERFILES
    return next((context / name for name in names if (context / name).is_file()), None)
