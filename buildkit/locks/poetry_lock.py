"""``poetry.lock``: which of its packages a target gets, as pins.

Poetry 2 writes the groups and the marker of every package (lock-version 2.1,
https://python-poetry.org/docs/libraries/#lock-file). Earlier locks (2.0 and 1.1) have what each package needs, so they
are walked from what ``[tool.poetry]`` names. Lock-version 1.1 lists the files of all versions of a project together.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.target import Target
from buildkit.declare.toml import Table, find_table, parse_toml
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.choice_inputs import find_lines
from buildkit.locks.git_source import make_git_source
from buildkit.locks.pins import Pin, PinnedFile
from buildkit.locks.poetry_needs import find_needed
from buildkit.locks.requirements_txt import DescribeLocal, applicable, normalise_name

_PROJECT = ("requires-python", "dependencies", "optional-dependencies")
_LEGACY = ("dependencies", "source", "extras", "dev-dependencies")
_REMAKE = "run: poetry lock"


@dataclass(frozen=True, kw_only=True)
class PoetryReader:
    """Reads a poetry.lock and the pyproject.toml next to it. Both are text; every method raises DefinitionError."""

    choice: LockChoice
    lock: str
    pyproject: str
    describe_local: DescribeLocal

    def read(self, target: Target) -> tuple[Pin, ...]:
        """Return the pins that apply to ``target``. Raises DefinitionError with every problem found."""
        self._check()
        pairs = self._of_groups() if self._version >= (2, 1) else find_needed(self._table, self._project, self.choice)
        problems: list[Problem] = []
        pins = [pin for package, marker in pairs for pin in self._pins(package, marker, problems)]
        if problems:
            raise DefinitionError.of(problems)
        kept: dict[Pin, None] = {}
        for extra in ("", *self.choice.extras):  # a marker holds if it does with any of the extras
            kept |= dict.fromkeys(applicable(pins, target, {"extra": extra}))
        found = tuple(pin for pin in dict.fromkeys(pins) if pin in kept)
        if len({pin.name for pin in found}) != len(found):
            what = "has two versions of one package for these extras and groups"
            raise DefinitionError.of([Problem(file=self.choice.file, what=what, hint=_REMAKE)])
        return (*found, *self._itself())

    @cached_property
    def _table(self) -> Table:
        return parse_toml(self.lock, self.choice.file)

    @cached_property
    def _project(self) -> Table:
        return parse_toml(self.pyproject, posixpath.join(self.choice.folder, "pyproject.toml"))

    @cached_property
    def _lines(self) -> dict[tuple[str, str], int]:
        return find_lines(self.lock)

    @property
    def _version(self) -> tuple[int, ...]:
        words = str(find_table(self._table, "metadata").get("lock-version", "")).split(".")
        return tuple(int(word) for word in words) if all(word.isdecimal() for word in words) else ()

    def _check(self) -> None:
        """Raise DefinitionError for a lock that cannot be read, is not in step, or has no such extra or group."""
        file, made = self.choice.file, find_table(self._table, "metadata").get("content-hash")
        if not (1, 1) <= self._version < (3,):
            what = "is not of lock-version 1.1 or 2, which Poetry 1.1 and later write"
            raise DefinitionError.of([Problem(file=file, what=what, hint=_REMAKE)])
        if made not in (content_hash(self._project), content_hash(self._project, groups=False)):
            what = "is not in step with pyproject.toml: what is needed has changed since it was made"
            raise DefinitionError.of([Problem(file=file, what=what, hint=_REMAKE)])
        known = {"extra": {normalise_name(name) for name in find_table(self._table, "extras")}, "group": self._groups}
        asked = {"extra": self.choice.extras, "group": (*self.choice.groups, *self.choice.only_groups)}
        problems = [
            Problem(
                file=file, what=f"its project has no {kind} `{name}`", hint=f"it has: {', '.join(sorted(known[kind]))}"
            )
            for kind, names in asked.items()
            for name in names
            if normalise_name(name) not in known[kind]
        ]
        if problems:
            raise DefinitionError.of(problems)

    @property
    def _groups(self) -> set[str]:
        poetry = find_table(self._project, "tool", "poetry")
        legacy = ("dev",) if "dev-dependencies" in poetry else ()
        names = (*find_table(poetry, "group"), *find_table(self._project, "dependency-groups"), *legacy, "main")
        return {normalise_name(name) for name in names}

    def _of_groups(self) -> Iterator[tuple[Table, str]]:
        """Yield each package of the groups that are asked for, with its marker; one for each of its groups."""
        asked = self.choice.only_groups or ("main", *self.choice.groups)
        wanted = {normalise_name(name) for name in asked}
        for package in _tables(self._table.get("package")):
            markers = package.get("markers", "")
            for group in package.get("groups", ()):
                if normalise_name(str(group)) in wanted:
                    yield package, str(markers.get(group, "") if isinstance(markers, dict) else markers)

    def _pins(self, package: Table, marker: str, problems: list[Problem]) -> Iterator[Pin]:
        name, version = normalise_name(str(package.get("name", ""))), str(package.get("version", ""))
        line = self._lines.get((name, version), 1)
        source = find_table(package, "source")
        kind, url = source.get("type", ""), str(source.get("url", ""))
        path, index, files, git = "", "", tuple[PinnedFile, ...](), None
        match kind:
            case "git":
                try:
                    git = make_git_source(
                        url, str(source.get("resolved_reference")), str(source.get("subdirectory", ""))
                    )
                except ValueError as error:
                    problems.append(Problem(file=f"{self.choice.file}:{line}", what=f"{name} {error}"))
                    return
            case "directory":
                path = self._local(url)
                if not self.choice.project:
                    return
            case "" | "legacy":
                index = url
            case "url" | "file":
                place = url if kind == "url" else posixpath.normpath(posixpath.join(self.choice.folder, url))
                listed = self._files(package)
                files = tuple(PinnedFile(name=file, sha256=sha256, place=place) for file, sha256 in listed)
            case _:
                what = f"{name} is from {kind}; depend on a release, or keep it in the repository, below ./libs"
                problems.append(Problem(file=f"{self.choice.file}:{line}", what=what))
                return
        hashes = tuple(sha256 for _, sha256 in self._files(package))
        if not path and not hashes and git is None:
            what = f"{name} has no file with a SHA-256"
            problems.append(Problem(file=f"{self.choice.file}:{line}", what=what, hint=_REMAKE))
            return
        yield Pin(
            name=name, version=version, hashes=hashes, file=self.choice.file, line=line, marker=marker, path=path,
            files=files, index=index, git=git,
        )  # fmt: skip

    def _files(self, package: Table) -> list[tuple[str, FileHash]]:
        listed = package.get("files", self._together.get(normalise_name(str(package.get("name", "")))))
        pairs = ((str(entry.get("file", "")), str(entry.get("hash", ""))) for entry in _tables(listed))
        digits = ((file, value.removeprefix("sha256:")) for file, value in pairs if value.startswith("sha256:"))
        return [(file, FileHash(value)) for file, value in digits if len(value) == 64]

    @cached_property
    def _together(self) -> dict[str, object]:
        """The files of each project in a lock of version 1.1."""
        listed = find_table(self._table, "metadata", "files")
        return {normalise_name(name): files for name, files in listed.items()}

    def _local(self, url: str) -> str:
        folder = posixpath.normpath(posixpath.join(self.choice.folder, url))
        if folder.startswith(("../", "/")) or folder == "..":
            what = f"a package is in {folder}, outside of the repository"
            raise DefinitionError.of([Problem(file=self.choice.file, what=what)])
        return "." if folder == "." else f"./{folder}"

    def _itself(self) -> Iterator[Pin]:
        """Yield the project, which its own lock does not list."""
        poetry = find_table(self._project, "tool", "poetry")
        if not self.choice.project or self.choice.only_groups or poetry.get("package-mode") is False:
            return
        path = self._local(".")
        name, version = self.describe_local(path)
        yield Pin(name=normalise_name(name), version=version, hashes=(), file=self.choice.file, line=1, path=path)


def content_hash(pyproject: Table, *, groups: bool = True) -> str:
    """Return Poetry's hash of what is needed; before 2.3 it left ``[dependency-groups]`` out.

    As ``poetry.packages.locker.Locker._get_content_hash`` computes it.
    """
    project, poetry = find_table(pyproject, "project"), find_table(pyproject, "tool", "poetry")
    group_table = find_table(pyproject, "dependency-groups") if groups else {}
    needed = {key: project[key] for key in _PROJECT if project.get(key) is not None}
    own = {key: poetry.get(key) for key in (*_LEGACY, "group")}
    if needed or group_table:
        own = {key: value for key, value in own.items() if value is not None}
    elif own["group"] is None:
        del own["group"]
    whole: dict[str, object] = {"project": needed} if needed else {}
    if group_table:
        whole["dependency-groups"] = group_table
    whole = {**whole, "tool": {"poetry": own}} if whole else own
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def _tables(value: object) -> Sequence[Table]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
