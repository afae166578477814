"""The lock of the images' Python (``requirements/python.lock``): one archive of python-build-standalone a processor."""

from __future__ import annotations

from typing import Any

from buildkit.declare.schema import IntegerSchema, KeySchema, ListSchema, TableSchema, TextSchema, ValueLocation
from buildkit.declare.target import ARCHES, Target
from buildkit.declare.toml import parse_toml, render_toml
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.freshness import check_fresh, read_inputs, render_header
from buildkit.locks.pins import PythonArchive

PYTHON_LOCK = "requirements/python.lock"
_HEADER = ("Made by `nox -s lock`: the images' Python, of python-build-standalone.",)
_RELEASE = TextSchema(r"3\.[0-9]+\.[0-9]+", "a release of Python (3.12.16)")
_SCHEMA = TableSchema(
    {
        "version": KeySchema(_RELEASE, "the release", required=True),
        "build": KeySchema(TextSchema(r"[0-9]{8}(T[0-9]+)?", "a date (20261110)"), "the build", required=True),
        "archive": KeySchema(
            ListSchema(
                TableSchema(
                    {
                        "arch": KeySchema(TextSchema(choices=ARCHES), "the processor", required=True),
                        "url": KeySchema(TextSchema(r"https?://[^\s@]+", "a URL"), "the archive", required=True),
                        "sha256": KeySchema(TextSchema(r"[0-9a-f]{64}", "a SHA-256"), "its hash", required=True),
                        "size": KeySchema(IntegerSchema(1, 1 << 40), "its bytes", required=True),
                    }
                ),
                least=1,
            ),
            "one for each processor",
            required=True,
        ),
    }
)


def python_inputs(target: Target) -> FileHash:
    """Hash the inputs of the lock: the release that the settings ask for."""
    return FileHash.of(canonical_json({"kind": "python", "python": target.python}).encode())


def find_stale_python(text: str | None, target: Target) -> Problem | None:
    """Return the problem of the lock ``text`` (None: missing), or None if it pins the Python of ``target``."""
    if problem := check_fresh(PYTHON_LOCK, text, python_inputs(target)):
        return problem
    try:
        archives = parse_python_lock(text or "")
    except DefinitionError as error:
        return error.problems[0]
    if all(archive.arch != target.arch for archive in archives):
        return Problem(file=PYTHON_LOCK, what=f"has no archive for {target.arch}", hint="run: nox -s lock")
    return None


def get_python(text: str | None, target: Target) -> PythonArchive:
    """Return the archive for the target's processor. Raises DefinitionError for a missing, stale or invalid lock."""
    if problem := find_stale_python(text, target):
        raise DefinitionError.of([problem])
    return next(archive for archive in parse_python_lock(text or "") if archive.arch == target.arch)


def find_locked_release(text: str | None) -> str:
    """Return the release that the lock ``text`` names (``3.12.16``); empty for a missing or invalid lock."""
    try:
        return parse_python_lock(text or "")[0].version
    except DefinitionError:
        return ""


def parse_python_lock(text: str) -> tuple[PythonArchive, ...]:
    """Parse the lock: archives of one release and build, sorted by processor. Raises DefinitionError."""
    problems: list[Problem] = []
    read_inputs(text, PYTHON_LOCK, problems)
    parsed = parse_toml(text, PYTHON_LOCK, "run: nox -s lock")
    table: dict[str, Any] = _SCHEMA.read(parsed, ValueLocation(PYTHON_LOCK, problems)) or {}
    entries = table.get("archive", ())
    if len({entry.get("arch") for entry in entries}) < len(entries):
        problems.append(Problem(file=PYTHON_LOCK, key="archive", what="names a processor twice"))
    if problems:
        raise DefinitionError.of(problems)
    archives = [
        PythonArchive(
            version=table["version"], build=table["build"], **{**entry, "sha256": FileHash(entry["sha256"])}
        )
        for entry in entries
    ]  # fmt: skip
    return tuple(sorted(archives, key=lambda archive: archive.arch))


def render_python_lock(archives: tuple[PythonArchive, ...], target: Target) -> str:
    """Render the lock of archives of one release and build; equal archives give equal bytes."""
    first, *_ = archives
    tables = [
        {"arch": one.arch, "url": one.url, "sha256": one.sha256.hex, "size": one.size}
        for one in sorted(archives, key=lambda one: one.arch)
    ]
    table = {"version": first.version, "build": first.build, "archive": tables}
    return render_header(python_inputs(target)) + render_toml(table, header=_HEADER)
