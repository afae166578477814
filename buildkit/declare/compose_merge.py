"""Several compose files as one: overrides, ``include`` and ``extends`` of the Compose specification. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from buildkit.errors import DefinitionError

Table = dict[str, Any]
Read = Callable[[str], object]
"""Returns a file's value, its variables replaced, by the path relative to the project. Raises DefinitionError."""

_DEEPEST = 20  # files that include or extend one another


def merge_files(paths: list[str], read: Read) -> object:
    """Return the files as one, later ones over earlier ones, with what they include and extend. Raises DefinitionError.

    A value that is no mapping is returned as it is, for whoever parses it.
    """
    merged: object = {}
    for path in paths:
        value = _load(path, read, 0)
        if not isinstance(value, dict):
            return value
        merged = _merge(merged, value)
    return merged


def _load(path: str, read: Read, depth: int) -> object:
    """Return a file with what it includes and extends; its paths are relative to the project."""
    if depth > _DEEPEST:
        raise DefinitionError(f"{path}: includes or extends itself")
    table = read(path)
    if not isinstance(table, dict) or not isinstance(table.get("services", {}), dict):
        return table
    folder = posixpath.dirname(path)
    own = {name: _rebase(service, folder) for name, service in (table.get("services") or {}).items()}
    services: Table = {}
    for other in _included(table.get("include"), path):
        services |= _services(_load(posixpath.normpath(posixpath.join(folder, other)), read, depth + 1))
    services |= own
    resolved = {name: _extend(name, services, (path, read, depth)) for name in services}
    return {**table, "services": resolved} if services else table


def _included(value: object, path: str) -> list[str]:
    """Return the files of ``include``: a list of paths, or of mappings whose ``path`` is one or several."""
    found: list[str] = []
    for item in value if isinstance(value, list) else []:
        paths = item.get("path") if isinstance(item, dict) else item
        found += [paths] if isinstance(paths, str) else paths if isinstance(paths, list) else []
    if value and not (found and all(isinstance(one, str) for one in found)):
        raise DefinitionError(f"{path}: `include` must be a list of paths")
    return found


def _extend(name: str, services: Mapping[str, Any], where: tuple[str, Read, int]) -> object:
    """Return a service merged over the one that it extends."""
    service, (path, read, depth) = services[name], where
    asked = service.get("extends") if isinstance(service, dict) else None
    if not asked:
        return service
    base, file = (asked, "") if isinstance(asked, str) else (str(asked.get("service")), str(asked.get("file") or ""))
    if depth > _DEEPEST:
        raise DefinitionError(f"{path}: `services.{name}` extends itself")
    others = services
    if file:
        others = _services(_load(posixpath.normpath(posixpath.join(posixpath.dirname(path), file)), read, depth + 1))
    if base not in others:
        raise DefinitionError(f"{path}: `services.{name}.extends`: there is no service `{base}` in {file or path}")
    own = {key: value for key, value in service.items() if key != "extends"}
    return _merge(_extend(base, others, (path, read, depth + 1)), own)


def _services(table: object) -> Table:
    services = table.get("services") if isinstance(table, dict) else None
    return services if isinstance(services, dict) else {}


def _rebase(service: object, folder: str) -> object:
    """Return a service whose paths are relative to the project, with a mapping for its ``build``."""
    if not isinstance(service, dict):
        return service
    service = dict(service)
    if isinstance(service.get("build"), str):
        service["build"] = {"context": service["build"]}
    build, develop = service.get("build"), service.get("develop")
    if folder and isinstance(build, dict) and "://" not in str(build.get("context") or "."):
        service["build"] = {**build, "context": posixpath.join(folder, str(build.get("context") or "."))}
    rules = develop.get("watch") if isinstance(develop, dict) else None
    if folder and isinstance(develop, dict) and isinstance(rules, list):
        service["develop"] = {**develop, "watch": [_move(rule, folder) for rule in rules]}
    return service


def _move(rule: object, folder: str) -> object:
    if not isinstance(rule, dict) or not rule.get("path"):
        return rule
    return {**rule, "path": posixpath.join(folder, str(rule["path"]))}


def _merge(base: object, over: object) -> object:
    """Return mappings merged key by key and sequences one after the other; anything else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: _merge(base[key], value) if key in base else value for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list):
        return [*base, *over]
    return over
