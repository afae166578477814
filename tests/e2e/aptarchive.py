"""A Debian archive on loopback, with made-up packages, that mmdebstrap uses in place of Debian's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONTROL = """Package: {name}
Version: {version}
Architecture: all
Maintainer: Tester <tester@example.org>
Description: made up
"""
_RELEASE = """Suite: trixie
Codename: trixie
Components: main
Architectures: amd64 arm64
Date: Sun, 29 Nov 2026 00:00:00 +0000
SHA256:
{sums}"""


class AptArchive:
    """An archive below ``folder`` that has one version of every package, as Debian's has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""

    def publish(self, packages: Mapping[str, str]) -> None:
        """Replace everything by these packages (name to version); each has the file ``/usr/share/NAME/version``."""
        for path in self.folder.iterdir():
            shutil.rmtree(path)
        pool = self.folder / "pool"
        pool.mkdir()
        for name, version in packages.items():
            tree = self.folder / "tree"
            (tree / "DEBIAN").mkdir(parents=True)
            (tree / "DEBIAN/control").write_text(_CONTROL.format(name=name, version=version))
            (tree / f"usr/share/{name}").mkdir(parents=True)
            (tree / f"usr/share/{name}/version").write_text(f"{version}\n")
            argv = ("dpkg-deb", "--build", "--root-owner-group", str(tree), str(pool / f"{name}_{version}_all.deb"))
            subprocess.run(argv, check=True, capture_output=True)
            shutil.rmtree(tree)
        listed = subprocess.run(("dpkg-scanpackages", "pool"), cwd=self.folder, check=True, capture_output=True).stdout
        sums = []
        for arch in ("amd64", "arm64"):
            index = self.folder / f"dists/trixie/main/binary-{arch}/Packages"
            index.parent.mkdir(parents=True)
            index.write_bytes(listed)
            sums.append(f" {hashlib.sha256(listed).hexdigest()} {len(listed)} main/binary-{arch}/Packages\n")
        (self.folder / "dists/trixie/Release").write_text(_RELEASE.format(sums="".join(sums)))

    def put_first(self, folder: Path, env: dict[str, str]) -> None:
        """Let sessions with ``env`` find an mmdebstrap that runs the real one with this archive."""
        folder.mkdir()
        program = folder / "mmdebstrap"
        real = shutil.which("mmdebstrap", path=os.environ["PATH"])
        program.write_text(f'#!/bin/sh\nexec {real} "$@" "deb [trusted=yes] {self.url} trixie main"\n')
        program.chmod(0o755)
        env["PATH"] = f"{folder}:{env['PATH']}"


@contextmanager
def serve_archive(folder: Path) -> Iterator[AptArchive]:
    """Serve an empty archive until the block ends."""
    folder.mkdir()
    archive = AptArchive(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
    archive.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
