"""Install one wheel through the ``installer`` library into members of a layer; see ``layers.wheel.layer``."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import posixpath
import re
from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import installer
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, InvalidRecordEntry, RecordEntry
from installer.utils import Scheme

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import WheelError
from buildkit.layers.tar.member import Chunks, Member
from buildkit.layers.wheel.archive import BytesAt, WheelZip, find_name_problem
from buildkit.layers.wheel.prefix import prefix_members
from buildkit.layers.wheel.source import CheckedSource, LazyContent
from buildkit.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from installer.scripts import ScriptSection

INSTALLER = b"buildkit\n"
_SCRIPT_LIMIT = 64 << 20
_HASHES = {"sha256", "sha384", "sha512"}  # the specification: sha256 or better
_PIP, _PIP_SCRIPT = "pip", re.compile(r"pip(\d+(\.\d+)?)?")
_LONGEST_SHEBANG = 127  # what every kernel reads
# pip's since 25.1; it has no import that slows the start
_SCRIPT = """\
#!{shebang}
import sys
from {module} import {name}
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit({function}())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledWheel:
    """The files that a wheel installs: its members without RECORD, and RECORD's rows and path."""

    members: tuple[Member, ...]
    rows: tuple[tuple[str, str, str], ...]
    record_path: str
    site_packages: str
    wheel: str

    def record(self, unhashed: Sequence[str]) -> Member:
        """Return RECORD, with rows for ``unhashed`` paths too (bytecode), sorted as pip sorts."""
        rows = {*self.rows, *((_relative(path, self.site_packages), "", "") for path in unhashed)}
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(sorted(rows))
        return _held(self.record_path, text.getvalue().encode(), self.wheel)


def read_wheel(wheel: Path, target: Target, at: BytesAt | None = None) -> InstalledWheel:
    """Check and install ``wheel`` without inflating more than its metadata and scripts; raises WheelError.

    With ``at``, its bytes are read from there, and ``wheel`` is only its name.
    """
    archive = WheelZip(wheel, at)
    try:
        source = CheckedSource(archive)
        destination = _Destination(source, target)
        installer.install(source, destination, {"INSTALLER": INSTALLER})
    except WheelError:
        raise
    except (ValueError, AssertionError, InstallerError, InvalidRecordEntry, configparser.Error) as error:
        why = str(error) or "an entry point is not MODULE:FUNCTION"
        raise archive.refuse(f"is malformed: {why}") from error
    return destination.installed()


class _Destination(WheelDestination):
    """Collects members of the prefix instead of writing files."""

    def __init__(self, source: CheckedSource, target: Target) -> None:
        self._source = source
        self._archive = source.archive
        self._wheel = source.archive.path.name
        self._target = target
        prefix = target.prefix.lstrip("/")
        headers = source.distribution.replace("_", "-")
        self._folders = {
            "purelib": target.site_packages,
            "platlib": target.site_packages,
            "scripts": f"{prefix}/bin",
            "headers": f"{prefix}/include/site/python{target.minor}/{headers}",
            "data": prefix,
        }
        self._lib64 = f"{prefix}/lib64/"
        self._reserved = {member.path for member in prefix_members(target) if member.kind != "directory"}
        self._wrappers: set[str] = set()
        self._members: list[Member] = []
        self._rows: list[tuple[str, str, str]] = []
        self._record_path = ""

    def installed(self) -> InstalledWheel:
        return InstalledWheel(
            members=tuple(self._members),
            rows=tuple(self._rows),
            record_path=self._record_path,
            site_packages=self._target.site_packages,
            wheel=self._wheel,
        )

    def write_script(  # as in pip, both sections get the same script
        self,
        name: str,
        module: str,
        attr: str,
        section: ScriptSection,  # noqa: ARG002
    ) -> RecordEntry:
        if why := find_name_problem(name) or ("has a slash in its name" if "/" in name else ""):
            raise self._archive.refuse(f"has an entry point {name!r} that {why}")
        names = self._script_names(name)
        self._wrappers.update(names)
        script = _SCRIPT.format(shebang=self._shebang(), module=module, name=attr.split(".")[0], function=attr)
        for own in names:
            self._add_held("scripts", own, script.encode(), executable=True)
        return RecordEntry(name, None, None)

    def _script_names(self, name: str) -> tuple[str, ...]:
        """Return the scripts of an entry point: pip's own are ``pip``, ``pip3`` and ``pip3.13``, whatever it lists."""
        if self._source.project != _PIP or not _PIP_SCRIPT.fullmatch(name):
            return (name,)
        minor = self._target.minor
        return (_PIP, f"{_PIP}{minor.partition('.')[0]}", f"{_PIP}{minor}") if name == _PIP else ()

    def write_file(
        self, scheme: Scheme, path: str | PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        place = fspath(path)
        if not isinstance(stream, LazyContent):
            return self._add_held(scheme, place, stream.read(), executable=False)
        if scheme == "scripts":  # executable whatever its mode, as in uv: archives made on Windows have none
            return self._write_given_script(place, stream.member)
        return self._add_lazy(scheme, place, stream.member, executable=is_executable)

    def finalize_installation(
        self,
        scheme: Scheme,
        record_file_path: str,
        records: object,  # noqa: ARG002 - rows are collected as members are added
    ) -> None:
        self._record_path = self._place(scheme, record_file_path)
        self._rows.append((_relative(self._record_path, self._target.site_packages), "", ""))

    def _shebang(self) -> str:
        interpreter = f"{self._target.prefix}/bin/python"
        if " " not in interpreter and len(interpreter) + 3 <= _LONGEST_SHEBANG:
            return interpreter
        quoted = f'"{interpreter}"' if " " in interpreter else interpreter
        return f"/bin/sh\n'''exec' {quoted} \"$0\" \"$@\"\n' '''"

    def _write_given_script(self, place: str, member: str) -> RecordEntry:
        """Add a file of ``.data/scripts``: ``#!python`` becomes the image's; setuptools' own wrappers are dropped."""
        name = posixpath.basename(place)
        stem = name.removesuffix("-script.py") if name.endswith("-script.py") else name.removesuffix(".exe")
        if stem in self._wrappers:
            return RecordEntry(place, None, None)  # the entry point's script replaces it, as in pip
        head = next(self._archive.stream(member), b"")
        if not head.startswith(b"#!python"):
            return self._add_lazy("scripts", place, member, executable=True)
        script = self._archive.read(member, _SCRIPT_LIMIT)
        self._verify(member, script)
        rest = script.partition(b"\n")[2]
        return self._add_held("scripts", place, f"#!{self._shebang()}\n".encode() + rest, executable=True)

    def _add_lazy(self, scheme: str, place: str, member: str, *, executable: bool) -> RecordEntry:
        sha256, content = self._checked(member)
        size = self._archive.files[member].file_size
        path = self._place(scheme, place)
        self._members.append(
            Member(
                path=path,
                size=size,
                content=content,
                executable=executable,
                sha256=sha256,
                wheel=self._wheel,
            )
        )
        self._rows.append((_relative(path, self._target.site_packages), *self._source.recorded.get(member, ("", ""))))
        return RecordEntry(place, None, None)

    def _add_held(self, scheme: str, place: str, data: bytes, *, executable: bool) -> RecordEntry:
        path = self._place(scheme, place)
        self._members.append(_held(path, data, self._wheel, executable=executable))
        row = (f"sha256={_encoded(hashlib.sha256(data).digest())}", str(len(data)))
        self._rows.append((_relative(path, self._target.site_packages), *row))
        return RecordEntry(place, None, None)

    def _place(self, scheme: str, place: str) -> str:
        path = f"{self._folders[scheme]}/{place}"
        if path.startswith(self._lib64):  # lib64 is a link to lib in a virtual environment, never a folder
            path = f"{self._lib64.removesuffix('64/')}/{path.removeprefix(self._lib64)}"
        if path in self._reserved:
            raise self._archive.refuse("would replace a file of the virtual environment", place)
        return path

    def _checked(self, member: str) -> tuple[FileHash | None, Chunks]:
        """Return the member's SHA-256 if RECORD has one, and a reader that verifies any other hash.

        The reader refers to the archive only: one that led back here would keep all members of the wheel in memory.
        """
        stated, size = self._source.recorded.get(member, ("", ""))
        declared = self._archive.files[member].file_size
        if size and size != str(declared):
            raise self._archive.refuse(f"has {declared} bytes, but RECORD says {size}", member)
        if not stated:
            return None, partial(self._archive.stream, member)
        algorithm, _, value = stated.partition("=")
        if algorithm not in _HASHES:
            raise self._archive.refuse(f"has a hash in RECORD that is too weak: {algorithm}", member)
        if algorithm != "sha256":
            return None, partial(_verified, self._archive, member, Hash(algorithm, value))
        try:
            digest = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            return FileHash(digest.hex()), partial(self._archive.stream, member)
        except ValueError as error:
            raise self._archive.refuse("has a malformed hash in RECORD", member) from error

    def _verify(self, member: str, data: bytes) -> None:
        stated, _, value = self._source.recorded.get(member, ("", ""))[0].partition("=")
        self._checked(member)
        if stated and _encoded(hashlib.new(stated, data).digest()) != value:
            raise self._archive.refuse("has other bytes than RECORD says", member)


def _verified(archive: WheelZip, member: str, expected: Hash) -> Iterator[bytes]:
    hasher = hashlib.new(expected.name)
    for chunk in archive.stream(member):
        hasher.update(chunk)
        yield chunk
    if _encoded(hasher.digest()) != expected.value:
        raise archive.refuse(f"has other bytes than RECORD's {expected.name} says", member)


def _held(path: str, data: bytes, wheel: str, *, executable: bool = False) -> Member:
    return Member(path=path, size=len(data), content=lambda: iter((data,)), executable=executable, wheel=wheel)


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _relative(path: str, site_packages: str) -> str:
    """Return ``path`` as RECORD writes it: relative to the folder that holds the .dist-info."""
    inside = path.removeprefix(f"{site_packages}/")
    return inside if inside != path else posixpath.relpath(path, site_packages)
