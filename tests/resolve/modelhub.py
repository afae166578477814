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
        self.gated = self.busy = False
        self.renamed = self.more = ""
        self.swapped = b""  # what the store sends
        self.said: dict[str, object] = {}  # by path, what the hub says instead
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
        path = parts.path.removeprefix("/").removeprefix("api/models/").removeprefix(f"{hub.repository}/")
        if (refusal := self.refuse(secret, path)) is not None:
            self.answer(refusal[0], b"", refusal[1])
        elif parts.path in hub.said:
            more = {"Link": f'<{hub.more}>; rel="next"'} if hub.more else {}
            self.answer(200, json.dumps(hub.said[parts.path]).encode(), more)
        elif path == "refs":
            names = sorted(set(hub.revisions) - set(hub.commits))
            told = {"branches": [_ref(name) for name in names], "tags": [], "converts": []}
            self.answer(200, json.dumps(told).encode())
        else:
            self.tell(path, parse_qs(parts.query))

    def do_HEAD(self) -> None:
        self.do_GET()

    def refuse(self, secret: str, path: str) -> tuple[int, dict[str, str]] | None:
        """Return status and headers of a refusal, or None."""
        hub = self.server
        if hub.busy:
            return 429, {"Retry-After": "0"}
        if hub.token and secret != f"Bearer {hub.token}":
            return 401, {}
        if hub.renamed and f"/{hub.renamed}/" in self.path:
            return 307, {"Location": self.path.replace(hub.renamed, hub.repository)}
        if hub.repository not in self.path:
            return 404, {"X-Error-Code": "RepoNotFound"}
        if hub.gated and not path.startswith("revision/"):
            return 403, {"X-Error-Code": "GatedRepo"}
        return None

    def tell(self, path: str, query: dict[str, list[str]]) -> None:
        """Answer about a revision."""
        hub = self.server
        kind, _, rest = path.partition("/")
        revision, _, name = rest.partition("/")
        commit = hub.revisions.get(unquote(revision), "")
        if not commit:
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif kind == "revision":
            siblings = [{"rfilename": path} for path in hub.commits[commit]]
            told = {"id": hub.repository, "sha": commit, "cardData": {"license": "apache-2.0"}, "siblings": siblings}
            self.answer(200, json.dumps(told).encode())
        elif kind == "tree":
            self.tree(hub.commits[commit], commit, int(query.get("cursor", ["0"])[0]))
        else:
            self.file(unquote(name), hub.commits[commit].get(unquote(name)), commit)

    def file(self, name: str, data: bytes | None, commit: str) -> None:
        """Answer as the hub does: what is large lies elsewhere, and its hash and size are headers here."""
        if data is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        digest = hashlib.sha256(data).hexdigest()
        if not is_large(name):
            return self.answer(200, data, {"X-Repo-Commit": commit, "ETag": f'"{git_oid(data)}"'})
        place = f"http://localhost:{self.server.store.server_port}/{digest}"
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
        return self.answer(302, b"", {"Location": place, **linked})

    def tree(self, files: dict[str, bytes], commit: str, start: int) -> None:
        entries: list[dict[str, object]] = [{"type": "directory", "path": "onnx", "size": 0, "oid": "0" * 40}]
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            large = {"lfs": {"oid": digest, "size": len(data), "pointerSize": 134}} if is_large(path) else {}
            entries.append({"type": "file", "path": path, "size": len(data), "oid": git_oid(data), **large})
        following = f"{self.server.url}/api/models/{self.server.repository}/tree/{commit}?cursor={start + 2}"
        following = self.server.more or following
        more = {"Link": f'<{following}>; rel="next"'} if len(entries) > start + 2 or self.server.more else {}
        self.answer(200, json.dumps(entries[start : start + 2]).encode(), more)

    def answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
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
        self.answer(200, hub.swapped or by_digest[self.path.removeprefix("/")])


def git_oid(data: bytes) -> str:
    """Return git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _ref(name: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/heads/{name}", "targetCommit": "0" * 40}


def is_large(path: str) -> bool:
    """Whether a file is stored by LFS."""
    return path.endswith((".safetensors", ".bin"))


@contextmanager
def serve_hub(repository: str) -> Iterator[Hub]:
    """Serve a hub with one repository, without commits."""
    hub = Hub(repository)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in (hub, hub.store)]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in (hub, hub.store):
            server.shutdown()
            server.server_close()
