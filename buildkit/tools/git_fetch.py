"""Fetch a commit of a git repository as a tar with the same bytes everywhere.

git runs with the user's own settings and credentials, in a repository of its own: no setting of a checkout, of the
fetched repository or of a lock reaches it. The tar has the files as they are committed, with fixed times and owners;
``git archive`` would leave out and rewrite what attributes of the repository name, and its bytes are git's own choice.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from buildkit.errors import FetchError, ToolError
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.writer import write_layer
from buildkit.locks.git_source import GitSource
from buildkit.tools.process import Command, converse, run

_MOST_BYTES = 1 << 30  # of all files of a commit
_MOST_FILES = 200_000
_CHUNK = 1 << 20
_SUBMODULE, _LINK, _EXECUTABLE = "160000", "120000", "100755"


def fetch_commit(source: GitSource, out: BinaryIO) -> None:
    """Write the files of a commit, below one folder, as an uncompressed tar.

    Raises FetchError if the commit cannot be fetched or packed, BuildError for a file name that no layer could have.
    """
    with tempfile.TemporaryDirectory(prefix="buildkit-git-") as folder:
        repository = _Repository(Path(folder), source)
        repository.fetch()
        write_layer(repository.read_members(), out, Compression.NONE)


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    id: str
    size: int
    path: str


class _Repository:
    """A repository for one commit."""

    def __init__(self, folder: Path, source: GitSource) -> None:
        self._folder = folder
        self._source = source

    def fetch(self) -> None:
        self._run("init", "--quiet", "--template=")
        url, commit = self._source.url, self._source.commit
        try:
            self._run("fetch", "--quiet", "--no-tags", "--depth=1", "--end-of-options", url, commit)
        except ToolError:  # a server may give only what its branches and tags name
            refs = ("+refs/heads/*:refs/remotes/x/*", "+refs/tags/*:refs/tags/*")
            try:
                self._run("fetch", "--quiet", "--end-of-options", url, *refs)
                self._run("cat-file", "-e", f"{commit}^{{commit}}")
            except ToolError as error:
                raise self._failed(error) from error

    def read_members(self) -> Iterator[Member]:
        """Yield the files of the commit; each must be read before the next. Raises FetchError."""
        entries = self._list()
        with converse(self._command("cat-file", "--batch")) as (ask, answer):
            for entry in entries:
                ask.write(f"{entry.id}\n".encode())
                ask.flush()
                if answer.readline() != f"{entry.id} blob {entry.size}\n".encode():
                    raise FetchError(f"{self._source}: git does not give {entry.path}")
                yield self._member(entry, answer)
                answer.read(1)  # a line feed

    def _member(self, entry: _Entry, answer: BinaryIO) -> Member:
        path = f"{self._source.stem}/{entry.path}"
        if entry.mode == _LINK:
            target = answer.read(entry.size).decode("utf-8", "surrogateescape")
            return Member(path=path, kind="symlink", target=target)

        def content() -> Iterator[bytes]:
            left = entry.size
            while left:
                chunk = answer.read(min(left, _CHUNK))
                if not chunk:
                    raise FetchError(f"{self._source}: git ended in {entry.path}")
                left -= len(chunk)
                yield chunk

        return Member(path=path, size=entry.size, content=content, executable=entry.mode == _EXECUTABLE)

    def _list(self) -> list[_Entry]:
        """Return the files of the commit, sorted by path. Raises FetchError for what cannot be packed."""
        listed = self._run("ls-tree", "-r", "-z", "--long", "--full-tree", self._source.commit)
        entries = [_parse_entry(row) for row in listed.split(b"\0") if row]
        if modules := [entry.path for entry in entries if entry.mode == _SUBMODULE]:
            raise FetchError(
                f"{self._source} has a submodule, {modules[0]}, which is not fetched",
                hint="depend on a release, or keep the package in the repository, below ./libs",
            )
        if len(entries) > _MOST_FILES or sum(entry.size for entry in entries) > _MOST_BYTES:
            raise FetchError(f"{self._source} has too many files for a package, or too large ones")
        return sorted(entries, key=lambda entry: entry.path)

    def _run(self, *words: str) -> bytes:
        return run(self._command(*words)).stdout

    def _command(self, *words: str) -> Command:
        place = self._folder / ".git"
        env = {
            "GIT_DIR": str(place),  # whatever repository's hook runs this
            "GIT_WORK_TREE": str(self._folder),
            "GIT_INDEX_FILE": str(place / "index"),
            "GIT_OBJECT_DIRECTORY": str(place / "objects"),
            "GIT_TERMINAL_PROMPT": "0",  # nobody answers
            "LC_ALL": "C.UTF-8",
        }
        if "GIT_SSH_COMMAND" not in os.environ:
            env["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes"
        options = ("-c", "core.fsmonitor=false", "-c", "gc.auto=0")
        return Command(argv=("git", *options, *words), cwd=self._folder, env=env, what=f"git {words[0]}")

    def _failed(self, error: ToolError) -> FetchError:
        said = [line for line in error.output.splitlines() if line.startswith(("fatal:", "error:"))]
        reason = f": {said[-1].partition(': ')[2]}" if said else ""
        return FetchError(
            f"{self._source} cannot be fetched{reason}",
            hint=f"git's own settings and credentials count; try: git ls-remote {self._source.url}",
        )


def _parse_entry(row: bytes) -> _Entry:
    """Parse ``MODE TYPE ID SIZE<TAB>PATH``."""
    head, _, path = row.partition(b"\t")
    mode, _, name, size = head.decode("ascii").split()
    return _Entry(mode, name, int(size) if size.isdecimal() else 0, os.fsdecode(path))
