"""Normalise the tar of a fresh Debian root, so that it depends on neither the host nor the time.

Entries pass through in their order (mmdebstrap sorts them), so memory stays small. A few small files from which others
are derived (accounts, certificates, dpkg's records) are held back and written last.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import IO, cast

from buildkit.declare.stage import User
from buildkit.errors import BuildError
from buildkit.layers.globs import compile_excludes
from buildkit.layers.root import accounts
from buildkit.layers.root.dpkg import (
    STATUS,
    STATUS_FOLDER,
    SUMS,
    has_files,
    keep_sums,
    parse_packages,
    verify_packages,
)
from buildkit.layers.root.header import DIRECTORY, FILE, HARDLINK, SYMLINK, RootEntry, render_entry
from buildkit.layers.root.tar_input import TarInput
from buildkit.layers.tar.blob_stream import BlobOutput, BlobStream, Take
from buildkit.layers.tar.contents import link_content
from buildkit.layers.tar.header import END, padding
from buildkit.layers.tar.listing import ContentDescriber, root_listing
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.layers.tar.member_path import find_path_problem
from buildkit.locks.pins import AptPin

CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
PYTHON = "usr/bin/python3"

_CHUNK = 1 << 20
_NO_HOME = "nonexistent"  # Debian's home of a user without one (policy 9.2.3): it must not exist
_KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.LNKTYPE: HARDLINK,
    tarfile.SYMTYPE: SYMLINK,
    tarfile.DIRTYPE: DIRECTORY,
}
_ACCOUNTS = (accounts.PASSWD, accounts.GROUP, accounts.SHADOW, accounts.GSHADOW)
_PYTHON = re.compile(r"usr/bin/python3\.\d+")
_CERTIFICATES = "usr/share/ca-certificates/"
# A runtime mounts its own over these. They exist and are empty, so that mounting them adds nothing to a layer.
_EMPTIED = ("etc/hostname", "etc/hosts", "etc/resolv.conf")
# Emptied if the root has it: an empty machine-id means "not set yet" (machine-id(5)).
_BLANKED = "etc/machine-id"
# Dependent on the host or the time of the build, or backups and locks; folders stay.
_VOLATILE = compile_excludes(
    (
        "dev/**", "proc/**", "sys/**",
        "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "etc/.pwd.lock",
        "var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/lib/dbus/machine-id",
        # compiled by the first import, with or without times; the standard library's are compiled on purpose
        "**/__pycache__", "!usr/lib/python3.*/**/__pycache__", "!usr/lib/python3.*/__pycache__",
    )
)  # fmt: skip
_VOLATILE_FILES = compile_excludes(
    (
        "run/**", "tmp/**", "var/tmp/**", "var/log/**", "var/backups/**",
        "var/cache/apt/**", "var/cache/ldconfig/**", "var/cache/debconf/*-old",
        "var/lib/apt/lists/**", "var/lib/apt/extended_states",
        "var/lib/dpkg/*-old", "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock",
    )
)  # fmt: skip
_XATTRS = ("security.capability", "user.")  # others (security.selinux, trusted.*) are the host's


@dataclass(frozen=True, slots=True, kw_only=True)
class RootRules:
    """The paths to exclude from a root, and the files to add; patterns as in ``layers.globs``.

    ``drop_setuid`` clears setuid and setgid bits of files, and file capabilities. ``pins`` are exactly the packages
    that the root must hold; if empty, packages are not checked.
    """

    exclude: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    drop_setuid: bool = False
    pins: tuple[AptPin, ...] = ()


def pack_root(
    chunks: Iterable[bytes],
    rules: RootRules,
    out: BlobOutput | None,
    compression: Compression,
    tee: Take | None = None,
) -> PackedLayer:
    """Write the root whose tar is ``chunks`` to ``out`` as a layer; ``tee`` gets its tar before compression.

    Memory is a few mebibytes. Raises BuildError for a damaged or hostile tar, for accounts that clash, and for a hard
    link to an excluded file; MismatchError if the packages are not those of ``rules.pins``. Errors of ``chunks`` pass,
    at the latest after its last byte.
    """
    with BlobStream(out, compression, lambda _done: None, tee) as blob:
        root = _Root(rules, blob)
        _read(chunks, root)
        root.finish()
        blob.write(END)
        return blob.finish(root.listing())


def _read(chunks: Iterable[bytes], root: _Root) -> None:
    source = iter(chunks)
    reader = TarInput(source)
    damage = ""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|", bufsize=_CHUNK) as tar:
            for info in tar:
                root.add(info, tar)
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
            if not reader.is_end(tar.offset):
                damage = "it ends, or is not a tar any more, before its end marker"
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        damage = str(error)
    for _ in source:
        pass  # a producer that failed raises when it is read to its end, with a better message
    if damage:
        raise BuildError(f"the root's tar is damaged: {damage}")


class _Root:
    """The entries written so far, and those held back until the end."""

    def __init__(self, rules: RootRules, blob: BlobStream) -> None:
        self._rules = rules
        self._excluded = compile_excludes(rules.exclude)
        self._blob = blob
        self._waiting: dict[str, RootEntry] = {}  # folders that are left out unless something in them is kept
        self._written: set[str] = {""}
        self._held: dict[str, tuple[RootEntry, bytes]] = {}
        self._certificates: dict[str, bytes] = {}
        self._packages: list[bytes] = []
        self._sums: dict[str, tuple[RootEntry, bytes]] = {}  # by the path of the package's record
        self.contents: dict[str, str] = {}

    def add(self, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        path = _checked(info.name)
        kind = _KINDS.get(info.type, FILE if info.issparse() else None)
        if not path or kind is None or _is_volatile(path, kind):
            return  # the runtime creates device nodes and pipes
        entry = self._entry(info, path, kind)
        if kind == DIRECTORY:
            self._waiting.setdefault(path, entry)
            if not self._excluded(path):
                self._write_folder(path)
            return
        if kind == FILE and self._hold(entry, info, tar):
            return
        if not self._excluded(path):
            content = tar.extractfile(info) if kind == FILE else None
            self._write(entry, content)

    def _entry(self, info: tarfile.TarInfo, path: str, kind: bytes) -> RootEntry:
        drop = self._rules.drop_setuid and kind in (FILE, HARDLINK)
        return RootEntry(
            path=path,
            kind=kind,
            mode=0o777 if kind == SYMLINK else info.mode & (0o1777 if drop else 0o7777),
            uid=info.uid,
            gid=info.gid,
            size=info.size if kind == FILE else 0,
            link=_checked(info.linkname) if kind == HARDLINK else info.linkname if kind == SYMLINK else "",
            xattrs=() if drop else _xattrs(info),
        )

    def _hold(self, entry: RootEntry, info: tarfile.TarInfo, tar: tarfile.TarFile) -> bool:
        """Hold a file back to be written at the end, or record its content; tell whether it must not be written now."""
        path = entry.path
        if path in _ACCOUNTS:
            self._held[path] = entry, _content(tar, info)
            return True
        if path in _EMPTIED or path == _BLANKED:
            self._held[path] = replace(entry, size=0, mode=0o644, uid=0, gid=0), b""
            return True
        if path.startswith(STATUS_FOLDER) and path.endswith(SUMS):
            self._sums[path.removesuffix(SUMS)] = entry, _content(tar, info)
            return True
        if path == STATUS or path.startswith(STATUS_FOLDER):
            data = _content(tar, info)
            self._packages.append(data)
            if not self._excluded(path):
                self._held[path] = entry, data
            return True
        if path.startswith(_CERTIFICATES) and path.endswith(".crt"):
            data = _content(tar, info)
            self._certificates[path] = data
            if not self._excluded(path):
                self._held[path] = entry, data
            return True
        return False

    def listing(self) -> tuple[tuple[str, str], ...]:
        """Return what the root holds at each path (`layers.tar.listing`)."""
        return root_listing(self.contents, self._written - {""})

    def finish(self) -> None:
        """Write the files that were held back and those that the rules add."""
        if self._rules.pins:
            verify_packages(parse_packages(self._packages), self._rules.pins)
        self._keep_sums()
        for path in _EMPTIED:
            self._held.setdefault(path, (RootEntry(path=path), b""))
        self._add_accounts()
        if self._certificates and CA_BUNDLE not in self.contents:
            bundle = b"".join(_ended(data) for _, data in sorted(self._certificates.items()))
            self._held[CA_BUNDLE] = RootEntry(path=CA_BUNDLE), bundle
        for _, (entry, data) in sorted(self._held.items()):
            self._write(replace(entry, size=len(data)), io.BytesIO(data))
        self._add_python()
        for user in self._rules.users:
            home = _checked(user.home)
            if home not in ("", _NO_HOME) and home not in self._written:
                self._waiting[home] = RootEntry(path=home, kind=DIRECTORY, mode=0o750, uid=user.uid, gid=user.gid)
                self._write_folder(home)

    def _keep_sums(self) -> None:
        """Keep of each package's sums those of files that are kept; raise BuildError if record and files disagree."""
        for record, (entry, sums) in self._sums.items():
            kept = keep_sums(sums, lambda path: path in self.contents or path in self._held)
            used = keep_sums(sums, self._certificates.__contains__)  # in the bundle, whether or not the file is kept
            if record in self._held and has_files(sums) and not has_files(kept + used):
                hint = f"exclude `{record}`, too, or keep files of the package"
                raise BuildError(f"no file of the package is left in the root, but its record {record} is", hint=hint)
            if record not in self._held and has_files(kept):
                first = keep_sums(kept, lambda path: has_files(b"0  " + path.encode())).split()[1].decode()
                hint = "exclude the package's files, too, or keep its record"
                raise BuildError(f"{record} is left out of the root, but the package's {first} is not", hint=hint)
            if record in self._held:
                self._held[entry.path] = entry, kept

    def _add_accounts(self) -> None:
        texts = {path: self._held[path][1].decode("utf-8", "replace") for path in _ACCOUNTS if path in self._held}
        for path, text in accounts.add_users(texts, self._rules.users).items():
            secret = path in (accounts.SHADOW, accounts.GSHADOW)
            entry = self._held[path][0] if path in self._held else RootEntry(path=path, mode=0o600 if secret else 0o644)
            self._held[path] = entry, text.encode()

    def _add_python(self) -> None:
        """Add ``/usr/bin/python3``, which otherwise comes only with a package that needs dpkg."""
        pythons = [path for path in self.contents if _PYTHON.fullmatch(path)]
        if pythons and PYTHON not in self.contents:
            newest = max(pythons, key=lambda path: int(path.rpartition(".")[2]))
            self._write(RootEntry(path=PYTHON, kind=SYMLINK, mode=0o777, link=newest.rpartition("/")[2]), None)

    def _write_folder(self, path: str) -> None:
        if path in self._written:
            return
        if path in self.contents:
            raise BuildError(f"the root has {path} as a folder and as something else")
        self._write_folder(path.rpartition("/")[0])
        entry = self._waiting.pop(path, None)
        self._blob.write(render_entry(entry or RootEntry(path=path, kind=DIRECTORY, mode=0o755)))
        self._written.add(path)

    def _write(self, entry: RootEntry, content: IO[bytes] | None) -> None:
        if entry.path in self.contents or entry.path in self._written:
            raise BuildError(f"the root's tar names {entry.path} twice")
        self._write_folder(entry.path.rpartition("/")[0])
        what = link_content(entry.link)
        if entry.kind == HARDLINK:
            what = self._linked(entry)
        self._blob.write(render_entry(entry))
        if content is not None:
            what = self._copy(entry, content)
        self.contents[entry.path] = what

    def _linked(self, entry: RootEntry) -> str:
        if entry.link not in self.contents:
            raise BuildError(
                f"the root's {entry.path} is a hard link to {entry.link}, which is left out or not there",
                hint="leave out both or neither",
            )
        return self.contents[entry.link]

    def _copy(self, entry: RootEntry, content: IO[bytes]) -> str:
        described = ContentDescriber(entry.path, executable=bool(entry.mode & 0o100))
        left = entry.size
        while left and (chunk := content.read(min(_CHUNK, left))):
            described.update(chunk)
            self._blob.write(chunk)
            left -= len(chunk)
        if left:
            raise BuildError(f"the root's tar is damaged: {entry.path} ends {left} bytes early")
        self._blob.write(padding(entry.size))
        return described.content(lambda path: self.contents.get(path, ""))


def _is_volatile(path: str, kind: bytes) -> bool:
    return _VOLATILE(path) or (kind != DIRECTORY and _VOLATILE_FILES(path))


def _checked(name: str) -> str:
    path = "/".join(part for part in name.split("/") if part not in ("", "."))
    if path and (why := find_path_problem(path)):
        raise BuildError(f"the root's tar: {name!r} {why}")
    return path


def _xattrs(info: tarfile.TarInfo) -> tuple[tuple[str, bytes], ...]:
    named = ((key.removeprefix("SCHILY.xattr."), value) for key, value in info.pax_headers.items())
    return tuple(
        sorted((key, value.encode("utf-8", "surrogateescape")) for key, value in named if key.startswith(_XATTRS))
    )


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    return file.read() if file is not None else b""


def _ended(certificate: bytes) -> bytes:
    return certificate if certificate.endswith(b"\n") else certificate + b"\n"
