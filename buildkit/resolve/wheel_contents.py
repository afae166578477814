"""What wheels install, read when they are locked: from a local file, or from a few bytes of the file on its server.

A wheel's directory and its RECORD are at its end, so range requests fetch kilobytes of a file of gigabytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from buildkit.build.context import cache_folder
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import BuildError, FetchError, WheelError
from buildkit.layers.tar.contents import EXECUTABLE
from buildkit.layers.tar.listing import describe_member
from buildkit.layers.tar.member import Member
from buildkit.layers.wheel.install import read_wheel
from buildkit.locks.pins import Artifact
from buildkit.tools.http import TransientFailure
from buildkit.tools.indexes import Candidate, Indexes
from buildkit.tools.remote_file import RemoteFile, TooMuchError

_MOST_FETCHED = 16 << 20  # bytes of one wheel: the directory of a hundred thousand files
_WHOLE = 1 << 20  # bytes of a wheel that is fetched whole where its server knows no ranges
_READ = 64 << 10  # bytes of a member up to which it is read where RECORD has no SHA-256 of it

Contents = Mapping[str, str]
"""What lies at each path, as in the listing of a layer; empty where only its bytes would tell."""


class WheelContents:
    """Reads wheels for one target; threads share it. ``places`` are those of wheels that were just chosen."""

    def __init__(self, indexes: Indexes, target: Target, places: Mapping[FileHash, Candidate]) -> None:
        self._indexes = indexes
        self._target = target
        self._places = places
        self._lock = threading.Lock()
        self._read: dict[FileHash, Contents | None] = {}

    def find(self, wheel: Artifact) -> Contents | None:
        """Return the contents of a wheel by path; None if only all of its bytes would tell."""
        assert wheel.sha256 is not None  # noqa: S101 - the caller's check
        if wheel.sha256 not in self._read:
            members = self._members(wheel)
            found = None if members is None else {path: _content(member) for path, member in members.items()}
            with self._lock:
                self._read[wheel.sha256] = found
        return self._read[wheel.sha256]

    def describe(self, wheel: Artifact, path: str) -> str:
        """Return the content of a small file by its bytes, which may only declare a namespace, as in a listing."""
        member = (self._members(wheel) or {}).get(path)
        if member is None or member.content is None or member.size > _READ:
            return ""
        return describe_member(member)

    def _members(self, wheel: Artifact) -> Mapping[str, Member] | None:
        for path in self._local_files(wheel):
            with suppress(WheelError, OSError):
                return {member.path: member for member in read_wheel(path, self._target).members}
        tries = 0
        with suppress(FetchError, WheelError, TooMuchError):  # reported, if it matters, when all bytes are here
            while True:
                tries += 1
                try:
                    return self._found_members(wheel)
                except TransientFailure as failure:
                    self._indexes.session.wait(failure, tries)
        return None

    def _local_files(self, wheel: Artifact) -> list[Path]:
        found = self._indexes.find_local(wheel)
        cached: list[Path] = []
        with suppress(BuildError):  # whoever uses the cache reports what is wrong with it
            assert wheel.sha256 is not None  # noqa: S101 - the caller's check
            cached = [cache_folder() / "files" / wheel.sha256.hex / wheel.file]
        return [path for path in (found, *cached) if path is not None and os.path.isfile(path)]  # noqa: PTH113 - a link

    def _found_members(self, wheel: Artifact) -> Mapping[str, Member]:
        place, session = self._locate(wheel), self._indexes.session
        if place.path is not None:
            installed = read_wheel(place.path, self._target)
        else:
            file = RemoteFile(session, place.url, wheel.size, most=_MOST_FETCHED, whole=_WHOLE)
            installed = read_wheel(Path(wheel.file), self._target, file)
        return {member.path: member for member in installed.members}

    def _locate(self, wheel: Artifact) -> Candidate:
        """Return where a wheel is. Raises FetchError if it is nowhere."""
        if wheel.sha256 is not None and wheel.sha256 in self._places:
            return self._places[wheel.sha256]
        found = self._indexes.find_listed_place(wheel) or self._indexes.find_file(wheel)
        right = [one for one in found if one.sha256 in (None, wheel.sha256)]
        if not right:
            raise FetchError(f"nothing has {wheel.file}")
        return right[0]


def _content(member: Member) -> str:
    """Return the content of a member by its SHA-256 in RECORD, else by its bytes if they are few."""
    if member.sha256 is not None:
        return f"{member.sha256.hex}{EXECUTABLE}" if member.executable else member.sha256.hex
    return describe_member(member) if member.content and member.size <= _READ else ""
