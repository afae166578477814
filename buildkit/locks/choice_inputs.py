"""What a sidecar of another tool's lock is made from: the lock, and what the projects that it locks say.

A ``uv.lock`` was made from the tables of pyproject.toml files that say what is needed. They are part of the hash, so
that a changed dependency makes the sidecar stale, and locking asks uv whether its lock is in step. Tables of linters,
descriptions and other tools are not.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import asdict

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.target import Target
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import Problem
from buildkit.locks.choice_forms import find_form_options
from buildkit.locks.freshness import find_inputs, find_release
from buildkit.locks.project_tables import needed_tables
from buildkit.locks.requirement_inputs import Read
from buildkit.locks.wheels_lock import wheels_lock_path

_LOCAL = re.compile(r'^source = \{ (?:editable|virtual|directory) = "([^"\n]+)" \}$', re.MULTILINE)  # as uv writes it
_POETRY_LOCAL = re.compile(r'^type = "directory"\nurl = "([^"\n]+)"$', re.MULTILINE)
_PYPROJECT = "pyproject.toml"


def check_choice(choice: LockChoice, read: Read, target: Target, release: str) -> Problem | None:
    """Return what is wrong with the lock or the sidecar of ``choice``: missing, older or for another Python; or None.

    ``release`` is that of the images' Python, empty if it is not known.
    """
    if read(choice.file) is None:
        return Problem(file=choice.file, what="there is no such lock", hint=_MAKE[choice.kind])
    file = wheels_lock_path(choice.id, target.lock_arch)
    sidecar = read(file)
    if sidecar is None:
        return Problem(file=choice.file, what="which of its files the images get was not chosen yet", hint=_LOCK)
    if find_inputs(sidecar) != choice_inputs(choice, read, target):
        what = f"has changed, or what its projects need, since {file} was made from it"
        return Problem(file=choice.file, what=what, hint=_LOCK)
    if find_release(sidecar) not in ("", release):
        return Problem(file=file, what=f"is not for the images' Python {release}".rstrip(), hint=_LOCK)
    return None


_LOCK = "run: nox -s lock"
_MAKE = {
    "uv": "run: uv lock",
    "poetry": "run: poetry lock",
    "pylock": "make it with the tool of your project, as in: uv export -o pylock.toml",
}


def choice_inputs(choice: LockChoice, read: Read, target: Target) -> FileHash:
    """Hash the inputs of the sidecar of ``choice``: the lock, the projects that it is of, and the target."""
    text = read(choice.file) or ""
    parts = [(choice.file, text)]
    for folder in find_projects(choice, text):
        file = posixpath.normpath(posixpath.join(folder, _PYPROJECT))
        if not file.startswith("../") and (project := read(file)) is not None:
            parts.append((file, canonical_json(needed_tables(project, file), default=str)))
    whole: dict[str, object] = {"kind": "choice", "choice": asdict(choice), "parts": parts, "target": _words(target)}
    if forms := find_form_options(choice, read):
        whole["forms"] = forms  # earlier sidecars do not say them
    return FileHash.of(canonical_json(whole).encode())


def find_projects(choice: LockChoice, text: str) -> tuple[str, ...]:
    """Return the folders, relative to the repository, of the projects that a lock is of."""
    pattern = _POETRY_LOCAL if choice.kind == "poetry" else _LOCAL
    found = sorted({posixpath.normpath(posixpath.join(choice.folder, path)) for path in pattern.findall(text)})
    return tuple(dict.fromkeys((choice.folder or ".", *found))) if choice.kind != "pylock" else ()


def find_lines(text: str) -> dict[tuple[str, str], int]:
    """Return the line at which each package of a lock begins, by name and version; under no version for the first."""
    lines: dict[tuple[str, str], int] = {}
    for line, name, version in _packages(text):
        lines.setdefault((name, version), line)
        lines.setdefault((name, ""), line)
    return lines


def _packages(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and version of each package of a lock, as uv, poetry and pylock writers lay them out."""
    for found in _PACKAGE.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, re.sub(r"[-_.]+", "-", found[1]).lower(), found[2] or ""


_PACKAGE = re.compile(r'^\[\[packages?\]\]\nname = "([^"\n]+)"(?:\nversion = "([^"\n]+)")?', re.MULTILINE)


def _words(target: Target) -> dict[str, str]:
    return {"python": target.python, "glibc": target.glibc, "arch": target.arch}
