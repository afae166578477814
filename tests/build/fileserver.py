"""A server of one distribution on loopback that drops connections, sends wrong bytes, and requires credentials."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from buildkit.digest import FileHash

BODY = bytes(range(256)) * 8000  # 2 MB
HASH = FileHash.of(BODY)
NAME = "thing-1.0-py3-none-any.whl"


class Server(ThreadingHTTPServer):
    """``script`` holds what the next answers for files do: a status, ``drop``, ``whole`` or ``wrong``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.ranges = [], [], True
        self.password, self.page_hash, self.page = "", HASH.hex, True
        self.gate = None

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if server.password and "Basic" not in self.headers.get("Authorization", ""):
            return self.answer(401)
        if self.path.startswith("/moved/"):
            return self.answer(302, b"", {"Location": self.path.removeprefix("/moved")})
        if self.path == "/simple/thing/":
            return self.send_page()
        if not self.path.startswith("/files/"):
            return self.answer(404)
        return self.send_file(server.script.pop(0) if server.script else "whole")

    def send_page(self):
        server = self.server
        if server.script and server.script[0] == "page 503":
            server.script.pop(0)
            return self.answer(503)
        fragment = f"#sha256={server.page_hash}" if server.page_hash else ""
        page = f'<a href="/files/{NAME}{fragment}">{NAME}</a>' if server.page else ""
        return self.answer(200, page.encode(), {"Content-Type": "text/html"})

    def send_file(self, what):
        if isinstance(what, int):
            return self.answer(what, b"", {"Retry-After": "0"})
        body = b"x" * len(BODY) if str(what).startswith("wrong") else BODY
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        headers = {"Content-Length": str(len(body) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(206 if start else 200)
        for pair in headers.items():
            self.send_header(*pair)
        self.end_headers()
        if what in {"drop", "crumb", "wrong crumb"}:
            self.wfile.write(body[start : start + (700_000 if what == "drop" else 150_000)])
            self.wfile.flush()
            self.close_connection = True
            return None
        if self.server.gate:
            self.wfile.write(body[start:1000])
            self.wfile.flush()
            self.server.gate.wait(20)
        self.wfile.write(body[start:])
        return None

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for pair in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(*pair)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
