"""Packages of git repositories: the tar of a commit's tree is what a lock pins and the builder compiles."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from typing import IO

from buildkit.declare.toml import find_table, parse_toml
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, FetchError, Problem
from buildkit.locks.git_source import GitSource
from buildkit.locks.pins import Artifact, Pin
from buildkit.tools.git_fetch import fetch_commit

_MOST_BYTES = 1 << 20  # of a pyproject.toml


def choose_commit(pin: Pin, source: GitSource) -> Artifact:
    """Return the tar of a commit, which is fetched with the user's own credentials.

    Raises FetchError if that is impossible, DefinitionError if it has no package.
    """
    with tempfile.TemporaryFile(prefix="buildkit-git-") as file:
        fetch_commit(source, file)
        size = file.tell()
        file.seek(0)
        sha256 = FileHash(hashlib.file_digest(file, "sha256").hexdigest())
        version = pin.version or _find_version(pin, source, file)
    return Artifact(
        name=pin.name, version=version, file=f"{source.stem}.tar", sha256=sha256, size=size, place=str(source)
    )  # fmt: skip


def _find_version(pin: Pin, source: GitSource, file: IO[bytes]) -> str:
    """Return the version that the package's pyproject.toml has, empty if it is computed."""
    folder = "/".join(filter(None, (source.stem, source.subdirectory)))
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        names = set(archive.getnames())
        if not names & {f"{folder}/pyproject.toml", f"{folder}/setup.py"}:
            where = source.subdirectory or "the top"
            what = f"{pin.name}: {source.url} has no pyproject.toml and no setup.py at {where}"
            raise DefinitionError.of([Problem(file=pin.at, what=what, hint="name its folder: #subdirectory=FOLDER")])
        text = ""
        if f"{folder}/pyproject.toml" in names and (member := archive.extractfile(f"{folder}/pyproject.toml")):
            text = member.read(_MOST_BYTES).decode("utf-8", "replace")
    try:
        table = parse_toml(text, f"{folder}/pyproject.toml")
    except DefinitionError as error:
        raise FetchError(f"{source}: {error.message}") from error
    version = find_table(table, "project").get("version", find_table(table, "tool", "poetry").get("version", ""))
    return version if isinstance(version, str) else ""
