"""Real archives of Debian packages, signed by keys of their own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_BINARIES = ("main/binary-amd64/", "main/binary-arm64/")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """An OpenPGP key in a GnuPG home of its own; ``public`` is the armored public key."""

    home: Path
    public: str

    def sign(self, text: str) -> bytes:
        return _gpg(self.home, "--clearsign", input=text.encode())

    @property
    def private(self) -> str:
        return _gpg(self.home, "--armor", "--export-secret-keys").decode()


@contextmanager
def make_keys(folder: Path, *names: str) -> Iterator[tuple[SigningKey, ...]]:
    """Make keys, each in a home below ``folder``, whose agents end with the block."""
    homes = [folder / f"{name}-home" for name in names]
    try:
        yield tuple(_make_key(home, name) for home, name in zip(homes, names, strict=True))
    finally:
        for home in homes:
            subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=True)


def _make_key(home: Path, name: str) -> SigningKey:
    home.mkdir(mode=0o700)
    _gpg(home, "--passphrase", "", "--quick-generate-key", f"{name} <{name}@example.invalid>", "ed25519", "sign", "0")
    return SigningKey(home=home, public=_gpg(home, "--armor", "--export").decode())


def make_package(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """Build NAME_VERSION_all.deb in ``folder``."""
    tree = folder / f"{name}-{version}"
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    control = tree / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.invalid>\n"
        "Description: made up\n"
    )
    package = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, package], check=True, capture_output=True)
    return package


def write_archive(
    folder: Path, packages: list[Path], key: SigningKey, *, suites: tuple[str, ...] = (), days_valid: int = 7
) -> None:
    """Write packages, indexes and signed ``InRelease`` files, valid for some days from now.

    Without suites the archive is flat: everything is in ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stanzas = []
    for package in packages:
        data = package.read_bytes()
        (folder / package.name).write_bytes(data)
        control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
        sums = f"Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        stanzas.append(f"{control}Filename: {package.name}\n{sums}")
    index = "\n".join(stanzas).encode()
    for place, subfolders in [(folder / f"dists/{suite}", _BINARIES) for suite in suites] or [(folder, ("",))]:
        _write_release(place, {f"{subfolder}Packages": index for subfolder in subfolders}, key, days_valid)


def _write_release(place: Path, indexes: dict[str, bytes], key: SigningKey, days_valid: int) -> None:
    now = datetime.now(UTC)
    release = (
        f"Suite: {place.name}\nCodename: {place.name}\nComponents: main\nArchitectures: amd64 arm64\n"
        f"Date: {format_datetime(now + timedelta(days=min(days_valid - 1, 0)), usegmt=True)}\n"
        f"Valid-Until: {format_datetime(now + timedelta(days=days_valid), usegmt=True)}\nSHA256:\n"
    )
    for name, data in indexes.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
        release += f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n"
    (place / "InRelease").write_bytes(key.sign(release))


class _ArchiveHandler(SimpleHTTPRequestHandler):
    """Serves a folder; as a proxy it answers for snapshot.debian.org from ``snapshots`` in that folder."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("http://snapshot.debian.org/archive/", "/snapshots/"))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_archives(folder: Path) -> Iterator[str]:
    """Serve the archives below ``folder`` until the block ends; yield the URL, which is a proxy as well."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_ArchiveHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _gpg(home: Path, *argv: str, input: bytes = b"") -> bytes:  # noqa: A002 - as subprocess calls it
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", *argv]
    env = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, check=True, capture_output=True, input=input, env=env).stdout
