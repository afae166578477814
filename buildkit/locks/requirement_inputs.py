"""Everything in a checkout that a resolver reads for a requirements input, so that a changed file makes a lock stale.

That is the input with what it includes (``-r``, ``-c``), the metadata of packages of the repository and what this
refers to (files of dynamic fields, other packages by path), and the resolver's settings in the checkout. Settings of
the user's account are not part of it: two people with other mirrors have the same fresh lock.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from buildkit.declare.toml import find_table, parse_toml
from buildkit.digest import canonical_json
from buildkit.errors import DefinitionError
from buildkit.locks.project_tables import needed_tables

Read = Callable[[str], str | None]
"""Return the text of a file by its path relative to the checkout, or None if it does not exist."""

Parts = list[tuple[str, str]]
"""The name of each part, most often its path, with its text."""

_INCLUDE = re.compile(r"(?:-r|-c|--requirement\b|--constraint\b)\s*=?\s*")  # pip takes -rFILE, uv spaces after =
_LOCAL = re.compile(
    r"^(?:-e\s+|--editable(?:\s+|=))?(?:[\w.-]++(?:\[[^]]*+\])?\s*+@\s*+)?(?:file:)?(\.{1,2}/[^\s;\[]*)"
)
_PYPROJECT = "pyproject.toml"
_METADATA = (_PYPROJECT, "setup.cfg", "setup.py")
_QUOTED = re.compile(r"""["']([^"'\n]{1,200})["']""")  # in setup.py any text may name a file
_CFG_FILES = re.compile(r"(file|attr):\s*([^\n;]+)")  # setuptools, "Configuring setuptools using setup.cfg files"
_SETTINGS = {  # files with settings, each with the table of it that has them
    "uv": (("uv.toml", ""), (_PYPROJECT, "uv")),
    "pip-tools": ((".pip-tools.toml", ""), (_PYPROJECT, "pip-tools")),
}


def collect_inputs(file: str, read: Read, locker: str) -> Parts:
    """Return all that ``locker`` (``uv`` or ``pip-tools``) reads in the checkout to resolve ``file``."""
    collector = _Collector(read)
    collector.requirements(file)
    collector.settings(locker)
    collector.members(posixpath.splitext(file)[0] + ".txt")
    return collector.parts


def find_places(file: str, read: Read) -> dict[str, frozenset[str]]:
    """Return the folders of local packages, relative to the checkout, by the texts that name them.

    A path in an input is relative to the checkout, one in ``[tool.uv.sources]`` to the file that has it. One text may
    mean several folders.
    """
    collector = _Collector(read)
    collector.requirements(file)
    return {written: frozenset(folders) for written, folders in collector.places.items()}


def find_sourced_packages(file: str, read: Read) -> dict[str, tuple[str, ...]]:
    """Return, by pyproject.toml, the dependencies of local packages that ``[tool.uv.sources]`` there gives a source."""
    collector = _Collector(read)
    collector.requirements(file)
    return collector.sourced


def is_moved(written: str, folders: Collection[str]) -> bool:
    """Whether the text that names ``folders`` means anything but a path relative to the checkout."""
    return set(folders) != {posixpath.normpath(written)}


def normalise_text(text: str) -> str:
    """Return ``text`` without comments, blank lines and surrounding spaces, continuation lines joined."""
    joined = re.sub(r"\\\r?\n\s*", " ", text)
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return "\n".join(line for line in lines if line)


class _Collector:
    """Collects parts; each file and each package is read once."""

    def __init__(self, read: Read) -> None:
        self.parts: Parts = []
        self.places: dict[str, set[str]] = {}
        self.sourced: dict[str, tuple[str, ...]] = {}
        self.has_workspace = False
        self._read = read
        self._seen: set[str] = set()

    def requirements(self, file: str) -> None:
        if file in self._seen:
            return
        self._seen.add(file)
        text = normalise_text(self._read(file) or "")
        self.parts.append((file, text))
        for line in text.splitlines():
            if include := included_path(line):
                self.requirements(posixpath.normpath(posixpath.join(posixpath.dirname(file), include)))
            elif local := _LOCAL.match(line):
                self._place(local[1], "")

    def settings(self, locker: str) -> None:
        for file, table in _SETTINGS[locker]:
            text = self._read(file)
            if text is None or table not in text:
                continue
            parsed = _parse(text, file)
            settings = find_table(parsed, "tool", table) if table else parsed
            if settings:
                self.parts.append((f"{file} {table}".rstrip(), canonical_json(settings, default=str)))
                self._paths(settings.get("sources"), "")

    def _place(self, written: str, base: str) -> None:
        folder = posixpath.normpath(posixpath.join(base, written))
        self.places.setdefault(written, set()).add(folder)
        self._package(folder)

    def _package(self, folder: str) -> None:
        if folder in self._seen:
            return
        self._seen.add(folder)
        for name in _METADATA:
            text = self._read(posixpath.join(folder, name))
            if text is None:
                continue
            self.parts.append((posixpath.join(folder, name), _without_linters(name, text) if folder == "." else text))
            for path in sorted(set(_referenced(name, text))):
                self._referenced_file(posixpath.normpath(posixpath.join(folder, path)))
            if name == _PYPROJECT:
                self._sources(_parse(text, name), folder)

    def members(self, lock: str) -> None:
        """Collect the members of workspaces that ``lock`` has, if a package has a source in its workspace.

        What the members are is known from the resolver alone.
        """
        for line in normalise_text(self._read(lock) or "").splitlines() if self.has_workspace else ():
            if local := _LOCAL.match(line):
                self._package(posixpath.normpath(local[1]))

    def _sources(self, table: Mapping[str, Any], folder: str) -> None:
        sources = find_table(table, "tool", "uv", "sources")
        if not sources:
            return
        from buildkit.locks.requirements_txt import normalise_name  # slow to load and seldom needed

        self._paths(sources, folder)
        project = find_table(table, "project")
        needed = {normalise_name(name) for name in _dependencies(project)}
        is_dynamic = "ependencies" in str(project.get("dynamic"))
        if names := tuple(name for name in sources if is_dynamic or normalise_name(name) in needed):
            self.sourced[posixpath.join(folder, _PYPROJECT)] = names
        if "workspace" in canonical_json(sources, default=str):
            self.has_workspace = True
            self._workspace(folder)

    def _workspace(self, folder: str) -> None:
        """Collect the settings of the workspace of a package, which may have other sources."""
        while folder:
            folder = posixpath.dirname(folder)
            file = posixpath.join(folder, _PYPROJECT)
            settings = find_table(_parse(self._read(file) or "", file), "tool", "uv")
            if "workspace" not in settings:
                continue
            if f"{file} workspace" not in self._seen:
                self._seen.add(f"{file} workspace")
                self.parts.append((f"{file} workspace", canonical_json(settings, default=str)))
                self._paths(settings.get("sources"), folder)
            return

    def _referenced_file(self, path: str) -> None:
        if path in self._seen or path.startswith(("../", "/")):
            return
        self._seen.add(path)
        try:
            text = self._read(path)
        except DefinitionError:
            return  # not text, so not a file of requirements
        if text is not None:
            self.parts.append((path, text))

    def _paths(self, sources: object, folder: str) -> None:
        """Collect the packages that ``[tool.uv.sources]`` names by path, relative to ``folder``."""
        for source in sources.values() if isinstance(sources, dict) else ():
            for entry in source if isinstance(source, list) else [source]:
                path = entry.get("path") if isinstance(entry, dict) else None
                if isinstance(path, str):
                    self._place(path, folder)


def _without_linters(name: str, text: str) -> str:
    """Return the text of a file of metadata; of a pyproject.toml only what counts, unless something is computed."""
    if name != _PYPROJECT or find_table(_parse(text, name), "project").get("dynamic"):
        return text
    return canonical_json(needed_tables(text, name), default=str)


def included_path(line: str) -> str:
    """Return the path that a line includes, unquoted as pip and uv do; the empty string for other lines."""
    option = _INCLUDE.match(line)
    try:
        return next(iter(shlex.split(line[option.end() :])), "") if option else ""
    except ValueError:
        return ""  # the resolver refuses the line


def _referenced(name: str, text: str) -> Iterator[str]:
    """Yield what may be paths of files that the metadata of a package is computed from."""
    if name == "setup.py":
        yield from (found[1] for found in _QUOTED.finditer(text))
    elif name == "setup.cfg":
        for found in _CFG_FILES.finditer(text):
            values = (value.strip() for value in found[2].split(","))
            yield from values if found[1] == "file" else _modules(next(values))
    else:
        value = _parse(text, name)
        if find_table(value, "project").get("dynamic"):
            yield from _texts(value.get("tool"))
            for field in find_table(value, "tool", "setuptools", "dynamic").values():
                if isinstance(field, dict) and isinstance(field.get("attr"), str):
                    yield from _modules(field["attr"])


def _dependencies(project: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of a project's dependencies, those of its extras too."""
    for text in _texts([project.get("dependencies"), project.get("optional-dependencies")]):
        yield re.split(r"[^\w.-]", text, maxsplit=1)[0]


def _modules(attribute: str) -> Iterator[str]:
    """Yield where the module of an attribute (``package.module.NAME``) may be."""
    module = attribute.rpartition(".")[0].replace(".", "/")
    yield from (f"{folder}{module}{end}" for folder in ("", "src/") for end in (".py", "/__init__.py"))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _parse(text: str, file: str) -> dict[str, Any]:
    """Return a parsed TOML file; an invalid one counts as empty here, because the resolver refuses it."""
    try:
        return parse_toml(text, file)
    except DefinitionError:
        return {}
