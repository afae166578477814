"""Package indexes on loopback (PEP 503 and 691), with every request that they got."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from buildkit.digest import FileHash

_JSON = "application/vnd.pypi.simple.v1+json"


class PackageIndexes(ThreadingHTTPServer):
    """Serves ``/INDEX/PROJECT/`` and the files below; ``sizes`` says whether pages have the sizes of files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.sizes = True

    def url(self, index: str = "simple") -> str:
        """Return the URL of an index."""
        return f"http://127.0.0.1:{self.server_port}/{index}"

    def add(
        self, name: str, version: str, *requires: str, index: str = "simple", tag: str = "py3-none-any", **more: str
    ) -> str:
        """Add a wheel; return the name of its file. ``more`` are further lines of METADATA."""
        file = f"{name}-{version}-{tag}.whl"
        info = f"{name}-{version}.dist-info"
        lines = [f"Requires-Dist: {line}" for line in requires]
        lines += [f"{key.replace('_', '-')}: {value}" for key, values in more.items() for value in values.split()]
        out = io.BytesIO()
        metadata = f"Metadata-Version: 2.3\nName: {name}\nVersion: {version}\n" + "".join(f"{line}\n" for line in lines)
        texts = {
            f"{name}.py": f"version = {version!r}\n",
            f"{info}/METADATA": metadata,
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/RECORD": "",
        }
        with zipfile.ZipFile(out, "w") as archive:
            for path, text in texts.items():
                archive.writestr(zipfile.ZipInfo(path), text)  # the same bytes at any time
        self.files.setdefault(f"{index}/{name.replace('_', '-')}", {})[file] = out.getvalue()
        return file

    def add_sdist(self, name: str, version: str, index: str = "simple") -> str:
        """Add an sdist whose metadata is written down; return the name of its file."""
        file, out = f"{name}-{version}.tar.gz", io.BytesIO()
        texts = {
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
            "pyproject.toml": f'[project]\nname = "{name}"\nversion = "{version}"\n',
        }
        with (
            gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for path, text in texts.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        self.files.setdefault(f"{index}/{name.replace('_', '-')}", {})[file] = out.getvalue()
        return file

    def page(self, project: str, *, as_json: bool) -> bytes:
        """Return the page of a project (``INDEX/NAME``)."""
        place = f"http://127.0.0.1:{self.server_port}/files/{project}"
        if not as_json:
            rows = (
                f'<a href="{place}/{file}#sha256={FileHash.of(data).hex}">{file}</a>\n'
                for file, data in self.files[project].items()
            )
            return "".join(rows).encode()
        files = [
            {
                "filename": file,
                "url": f"{place}/{file}",
                "hashes": {"sha256": FileHash.of(data).hex},
                **({"size": len(data)} if self.sizes else {}),
            }
            for file, data in self.files[project].items()
        ]
        name = project.rpartition("/")[2]
        return json.dumps({"meta": {"api-version": "1.1"}, "name": name, "versions": [], "files": files}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: PackageIndexes

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.strip("/").replace("%2B", "+")
        self.server.asked.append(path)
        as_json = _JSON in self.headers.get("Accept", "")
        if path in self.server.files:
            data, kind = self.server.page(path, as_json=as_json), _JSON if as_json else "text/html"
        elif path.startswith("files/"):
            project, _, file = path.removeprefix("files/").rpartition("/")
            data, kind = self.server.files.get(project, {}).get(file, b""), "application/octet-stream"
        else:
            data, kind = b"", ""
        self.send_response(200 if data else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def serve_indexes(projects: Sequence[tuple[str, ...]] = ()) -> Iterator[PackageIndexes]:
    """Serve indexes with wheels of ``projects`` (name, version, requirements)."""
    server = PackageIndexes()
    for project in projects:
        server.add(*project)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
