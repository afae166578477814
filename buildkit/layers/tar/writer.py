"""Write members as one deterministic layer tar, hashed and compressed on the way.

The format is the OCI image specification's layer: a pax tar, here without whiteouts, because a layer only adds. The
same members in the same order give the same bytes on every host; ``layers.tar.header`` describes what is fixed. Parents
are written explicitly, as directories of mode 0755, each before its first member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from buildkit.digest import FileHash
from buildkit.errors import BuildError, CollisionError, MismatchError, WheelError, source_changed
from buildkit.layers.tar.blob_stream import BlobOutput, BlobStream, Take
from buildkit.layers.tar.contents import describe_difference, link_content
from buildkit.layers.tar.header import DIRECTORY, END, FILE, SYMLINK, padding, render_header
from buildkit.layers.tar.listing import ContentDescriber
from buildkit.layers.tar.member import Compression, Member, PackedLayer
from buildkit.layers.tar.member_path import find_path_problem
from buildkit.layers.tar.parser import LayerMember


def _ignore(_done: int) -> None:
    return


def write_layer(
    members: Iterable[Member],
    out: BlobOutput | None,
    compression: Compression,
    *,
    progress: Callable[[int], None] = _ignore,
    tee: Take | None = None,
    threads: int = 1,
) -> PackedLayer:
    """Write ``members`` to ``out`` as a layer and return what was written.

    Memory is a few mebibytes for a layer of any size. ``progress`` is called with the bytes of tar so far; ``tee`` gets
    the tar as it is before compression, and what its headers say; it may be all that does. ``threads`` compress it. A
    path that comes twice with the same content is written once. Raises CollisionError if the contents differ, or if one
    is a file where another needs a directory; MismatchError (WheelError for a member of a wheel) if content does not
    have the member's size or hash. Errors of ``out.write`` pass.
    """
    with BlobStream(out, compression, progress, tee, threads) as blob:
        layer = _Layer(blob)
        for member in members:
            layer.add(member)
        blob.write(END)
        return blob.finish(tuple(sorted((path, what) for path, (what, _) in layer.owned.items())))


class _Layer:
    """The entries of one tar so far: its directories, and the content and wheel of every other path."""

    def __init__(self, blob: BlobStream) -> None:
        self._blob = blob
        self._directories: set[str] = {""}
        self.owned: dict[str, tuple[str, str]] = {}

    def add(self, member: Member) -> None:
        parent = member.path.rpartition("/")[0]
        if parent not in self._directories:
            self._add_directory(parent, member)
        if member.kind == "directory":
            self._add_directory(member.path, member)
            return
        _check_path(member.path, member)
        if member.path in self._directories:
            raise _collision(member.path, member.wheel, "", "one of them has a directory there")
        if member.path in self.owned:
            self._compare(member)
        elif member.kind == "symlink":
            header = render_header(member.path, SYMLINK, mode=0o755, link=member.target)
            self._blob.write(header, LayerMember(member.path.encode(), SYMLINK, 0o755, link=member.target.encode()))
            self.owned[member.path] = link_content(member.target), member.wheel
        else:
            mode = 0o755 if member.executable else 0o644
            header = render_header(member.path, FILE, size=member.size, mode=mode)
            self._blob.write(header, LayerMember(member.path.encode(), FILE, mode, size=member.size), member.clone)
            content = self._copy(member, self._blob.write)
            if rest := padding(member.size):
                self._blob.write(rest)
            self.owned[member.path] = content, member.wheel

    def _add_directory(self, path: str, member: Member) -> None:
        if path in self._directories:
            return
        _check_path(path, member)
        self._add_directory(path.rpartition("/")[0], member)
        if path in self.owned:
            raise _collision(path, self.owned[path][1], member.wheel, "the other needs a directory there")
        header = render_header(path + "/", DIRECTORY, mode=0o755)
        self._blob.write(header, LayerMember(f"{path}/".encode(), DIRECTORY, 0o755))
        self._directories.add(path)

    def _compare(self, member: Member) -> None:
        """Compare a member with the one already at its path; raises CollisionError if they differ."""
        content, owner = self.owned[member.path]
        new_content = link_content(member.target) if member.kind == "symlink" else self._copy(member, _drop)
        if new_content != content:
            raise _collision(member.path, owner, member.wheel, describe_difference(content, new_content))

    def _copy(self, member: Member, write: Callable[[bytes], None]) -> str:
        return _copy(member, write).content(lambda path: self.owned.get(path, ("", ""))[0])


def _copy(member: Member, write: Callable[[bytes], None]) -> ContentDescriber:
    """Pass the member's bytes to ``write`` and describe them.

    Raises MismatchError for another size or hash than the member's.
    """
    described = ContentDescriber(member.path, executable=member.executable)
    size = 0
    for chunk in member.content() if member.content is not None else ():
        size += len(chunk)
        if size > member.size:
            raise _mismatch(member, f"has more than the {member.size} bytes it should have")
        described.update(chunk)
        write(chunk)
    if size != member.size:
        raise _mismatch(member, f"ended after {size} of {member.size} bytes")
    if member.sha256 is not None and member.sha256 != FileHash(described.sha256):
        raise _mismatch(member, f"has SHA-256 {described.sha256}, expected {member.sha256.hex}")
    return described


def _drop(_chunk: bytes) -> None:
    return


def _check_path(path: str, member: Member) -> None:
    if why := find_path_problem(path):
        owner = member.wheel or member.source
        raise BuildError(
            f"{owner}: {path!r} {why}" if owner else f"{path!r} {why}",
            hint="rename the file, or leave it out: no layer can hold it",
        )


def _mismatch(member: Member, what: str) -> BuildError:
    if member.wheel:
        return WheelError(f"{member.wheel}: {member.path} {what}", hint="the wheel is damaged; fetch it again")
    if member.source:
        return source_changed(member.source)
    return MismatchError(f"{member.path} {what}")


def _collision(path: str, first: str, second: str, why: str) -> CollisionError:
    owners = " and ".join(owner or "another part of the layer" for owner in (first, second))
    return CollisionError(
        f"{path} belongs to {owners}, and {why}; pip would keep the one that it installs last",
        hint='name the package that wins: prefer = ["NAME"] in [wheels] of the stage; or exclude one of the two',
    )
