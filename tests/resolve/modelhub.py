"""A model hub on loopback with the API of https://huggingface.co/docs/hub/api, and a store of large files beside it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """``commits`` are files by path, by commit; ``revisions`` name commits. Pages of a tree have two entries."""

    daemon_threads = True

    def __init__(self, repository: str) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.repository = repository
        self.commits: dict[str, dict[str, bytes]] = {}
        self.revisions: dict[str, str] = {}
        self.token = ""
        self.asked: list[tuple[str, str]] = []
        self.store = ThreadingHTTPServer(("127.0.0.1", 0), _StoreHandler)
        self.store.daemon_threads = True
        self.store.hub = self  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, files: dict[str, bytes], *names: str) -> str:
        """Add a commit under revisions."""
        commit = hashlib.sha1(repr(files).encode()).hexdigest()
        self.commits[commit] = files
        self.revisions |= dict.fromkeys((commit, *names), commit)
        return commit


class _HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, parts = self.server, urlsplit(self.path)
        secret = self.headers.get("Authorization", "")
        hub.asked.append((self.path, secret))
        if hub.token and secret != f"Bearer {hub.token}":
            return self.answer(401)
        path = parts.path.removeprefix("/").removeprefix("api/models/").removeprefix(f"{hub.repository}/")
        kind, _, rest = path.partition("/")
        revision, _, name = rest.partition("/")
        commit = hub.revisions.get(unquote(revision), "")
        if not commit or hub.repository not in parts.path:
            return self.answer(404)
        files = hub.commits[commit]
        if kind == "revision":
            return self.answer(200, json.dumps({"sha": commit, "cardData": {"license": "apache-2.0"}}).encode())
        if kind == "tree":
            return self.tree(files, commit, int(parse_qs(parts.query).get("cursor", ["0"])[0]))
        data = files.get(unquote(name))
        if data is not None and is_large(unquote(name)):
            place = f"http://localhost:{hub.store.server_port}/{hashlib.sha256(data).hexdigest()}"
            return self.answer(302, b"", {"Location": place})
        return self.answer(404 if data is None else 200, data or b"")

    def tree(self, files: dict[str, bytes], commit: str, start: int) -> None:
        entries: list[dict[str, object]] = [{"type": "directory", "path": "onnx", "size": 0, "oid": "0" * 40}]
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            large = {"lfs": {"oid": digest, "size": len(data), "pointerSize": 134}} if is_large(path) else {}
            entries.append({"type": "file", "path": path, "size": len(data), "oid": "1" * 40, **large})
        following = f"{self.server.url}/api/models/{self.server.repository}/tree/{commit}?cursor={start + 2}"
        more = {"Link": f'<{following}>; rel="next"'} if len(entries) > start + 2 else {}
        self.answer(200, json.dumps(entries[start : start + 2]).encode(), more)

    def answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


class _StoreHandler(_HubHandler):
    """Where large files lie, on another host than the hub."""

    def do_GET(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        hub.asked.append((f"store{self.path}", self.headers.get("Authorization", "")))
        found = [data for files in hub.commits.values() for data in files.values()]
        by_digest = {hashlib.sha256(data).hexdigest(): data for data in found}
        self.answer(200, by_digest[self.path.removeprefix("/")])


def is_large(path: str) -> bool:
    """Whether a file is stored by LFS."""
    return path.endswith((".safetensors", ".bin"))


@contextmanager
def serve_hub(repository: str) -> Iterator[Hub]:
    """Serve a hub with one repository, without commits."""
    hub = Hub(repository)
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in (hub, hub.store)]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in (hub, hub.store):
            server.shutdown()
            server.server_close()
