"""Several compose files as one: overrides, ``include`` and ``extends`` of the Compose specification. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.errors import DefinitionError

Table = dict[str, Any]
Read = Callable[[str], object]
"""Returns a file's value, its variables replaced, by the path relative to the project. Raises DefinitionError."""

_DEEPEST = 20  # files that include or extend one another


@dataclass(frozen=True, slots=True, kw_only=True)
class _ComposeSource:
    """A file while it is read: its paths are relative to ``folder``; ``depth`` files led to it."""

    path: str
    folder: str
    read: Read
    depth: int = 0

    def other(self, path: str) -> _ComposeSource:
        """Return a file that this one names. Raises DefinitionError for a circle."""
        if self.depth > _DEEPEST:
            raise DefinitionError(f"{self.path}: includes or extends itself")
        path = posixpath.normpath(posixpath.join(self.folder, path))
        return _ComposeSource(path=path, folder=posixpath.dirname(path), read=self.read, depth=self.depth + 1)


def merge_files(paths: Sequence[str], read: Read) -> object:
    """Return the files as one, later ones over earlier ones, with what they include and extend. Raises DefinitionError.

    Paths in all of them are relative to the project. A value that is no mapping is returned as it is, for whoever
    parses it.
    """
    merged: object = {}
    for path in paths:
        value = _load(_ComposeSource(path=path, folder="", read=read))
        if not isinstance(value, dict):
            return value
        merged = _merge(merged, value)
    return merged


def _load(source: _ComposeSource) -> object:
    """Return a file with what it includes and extends; its paths are relative to the project."""
    table = source.read(source.path)
    if not isinstance(table, dict) or not isinstance(table.get("services", {}), dict):
        return table
    services: Table = {}
    for path in _included(table.get("include"), source.path):
        services |= _services(_load(source.other(path)))
    services |= {name: _rebase(service, source.folder) for name, service in (table.get("services") or {}).items()}
    resolved = {name: _extend(name, services, source, ()) for name in services}
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


def _extend(name: str, services: Mapping[str, Any], source: _ComposeSource, before: tuple[str, ...]) -> object:
    """Return a service merged over the one that it extends; ``before`` are services of this file that led to it."""
    service = services[name]
    asked = service.get("extends") if isinstance(service, dict) else None
    if not asked:
        return service
    where = f"{source.path}: `services.{name}.extends`"
    if name in before:
        raise DefinitionError(f"{where}: the service extends itself")
    table = {"service": asked} if isinstance(asked, str) else asked
    base, file = (table.get(key) for key in ("service", "file")) if isinstance(table, dict) else (None, None)
    if not isinstance(base, str) or not isinstance(file, str | None):
        raise DefinitionError(f"{where}: must be a service, or a mapping with `service` and `file`")
    others = _services(_load(source.other(file))) if file else services
    if base not in others:
        raise DefinitionError(f"{where}: there is no service `{base}` in {file or source.path}")
    own = {key: value for key, value in service.items() if key != "extends"}
    # a service of another file is resolved already
    return _merge(others[base] if file else _extend(base, others, source, (*before, name)), own)


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
