"""A git server on loopback: git's own http-backend behind a small web server, with a password if one is set."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class GitServer(ThreadingHTTPServer):
    """Serves the repositories below ``folder``; with ``password``, to the user ``me`` alone."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _GitHandler)
        self.folder = folder
        self.password = ""
        self.asked: list[str] = []

    def url(self, name: str) -> str:
        """Return the URL of a repository."""
        return f"http://127.0.0.1:{self.server_port}/{name}.git"

    def commit(self, name: str, files: Mapping[str, str], *, submodule: str = "") -> str:
        """Commit the files, and nothing else, to a repository; return the commit."""
        place = self.folder / f"{name}.git"
        place.mkdir(parents=True, exist_ok=True)
        if not (place / ".git").exists():
            _git(place, "init", "--quiet", "--initial-branch=main")
        _git(place, "rm", "-r", "--quiet", "--ignore-unmatch", ".")
        for path, text in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
        _git(place, "add", "--all")
        if submodule:
            _git(place, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{submodule}")
        _git(place, "commit", "--quiet", "--allow-empty", "--message=x")
        return _git(place, "rev-parse", "HEAD")

    def tag(self, name: str, tag: str) -> None:
        """Tag the last commit of a repository."""
        _git(self.folder / f"{name}.git", "tag", tag)


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(("git", *words), cwd=folder, env=_ENV, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class _GitHandler(BaseHTTPRequestHandler):
    server: GitServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _answer(self, body: bytes) -> None:
        server, (path, _, query) = self.server, self.path.partition("?")
        server.asked.append(path)
        expected = "Basic " + base64.b64encode(f"me:{server.password}".encode()).decode()
        if server.password and self.headers.get("Authorization", "") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        env = {
            **_ENV,
            "GIT_PROJECT_ROOT": str(server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path.replace(".git/", ".git/.git/", 1),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(("git", "http-backend"), input=body, env=env, capture_output=True, check=False)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for field in fields.items():
            self.send_header(*field)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def serve_git(folder: Path) -> Iterator[GitServer]:
    """Serve repositories below ``folder``."""
    server = GitServer(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
