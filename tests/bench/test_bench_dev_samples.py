"""Samples of the development loop: measured against a tiny server, and rendered."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from buildkit.bench.dev_samples import DevSample, Poller, attach_debugger, measure_edits, merge_samples, render_samples
from buildkit.errors import BuildError, ToolError


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A file, and the address of a server that answers with it."""
    path = tmp_path / "page"
    path.write_text("the greeting\n")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()
            self.wfile.write(path.read_bytes())

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield path, f"http://127.0.0.1:{server.server_port}/page"
        server.shutdown()


def test_edits_are_measured_until_they_are_answered_and_undone(served: tuple[Path, str]) -> None:
    path, url = served
    told = []
    poller = Poller(url)
    seconds = measure_edits(path, "greeting", poller, 2, lambda: told.append(path.read_text()))
    assert len(seconds) == 2
    assert told == ["the edition 0 of 2\n", "the edition 1 of 2\n", "the greeting\n"]
    assert path.read_text() == "the greeting\n"
    assert poller.failed == 0


def test_a_way_that_fails_is_not_tried_again_and_the_file_is_as_before(served: tuple[Path, str]) -> None:
    path, url = served
    told = []

    def fail() -> None:
        told.append(path.read_text())
        raise ToolError("restarting failed")

    with pytest.raises(ToolError):
        measure_edits(path, "greeting", Poller(url), 3, fail)
    assert told == ["the edition 0 of 3\n"]
    assert path.read_text() == "the greeting\n"


def test_text_that_is_not_in_the_file_is_an_error(served: tuple[Path, str]) -> None:
    path, url = served
    with pytest.raises(BuildError, match="`absent` is not in it"):
        measure_edits(path, "absent", Poller(url), 1)


def test_requests_without_an_answer_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    poller = Poller(f"http://127.0.0.1:{port}/")
    assert poller.ask() == b""
    assert poller.failed == 1


def test_debugger_is_attached_by_its_protocol() -> None:
    asked = []

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as lines:

            def say(**message: object) -> None:
                body = json.dumps(message).encode()
                connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)

            while line := lines.readline():
                length = int(line.partition(b":")[2])
                lines.readline()
                request = json.loads(lines.read(length))
                asked.append(request["command"])
                say(type="event", event="output", body={})
                if request["command"] == "attach":
                    say(type="event", event="initialized")
                    continue
                say(type="response", command=request["command"])
                if request["command"] == "configurationDone":
                    say(type="response", command="attach")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        assert attach_debugger(server.getsockname()[1]) > 0
        thread.join()
    assert asked == ["initialize", "attach", "configurationDone", "disconnect"]


def test_each_host_has_a_column_that_it_replaces() -> None:
    ours = DevSample(who="nox -s dev", what="a save", seconds=(0.0612, 0.2, 1.53))
    peer = DevSample(who="restart", what="a save", seconds=(0.5,), failed=7)
    document = "before\n<!-- bench-dev -->\n<!-- end of bench-dev -->\nafter\n"
    first = merge_samples(document, "here", [ours, peer])
    assert first.splitlines()[1:-2] == [
        "<!-- bench-dev -->",
        "| what | by | here |",
        "| --- | --- | ---: |",
        "| a save | nox -s dev | 200 ms / 1.5 s (3) |",
        "| a save | restart | 500 ms (1), 2.5 ×, 7 lost |",
    ]
    assert merge_samples(first, "here", [ours, peer]) == first
    second = merge_samples(first, "there", [DevSample(who="nox -s dev", what="a save", seconds=(0.1,))])
    assert "| a save | nox -s dev | 200 ms / 1.5 s (3) | 100 ms (1) |" in second
    assert "| a save | restart | 500 ms (1), 2.5 ×, 7 lost |  |" in second
    assert "restart" not in merge_samples(second, "here", [ours])
    assert render_samples("here", [ours, peer]) in first
    with pytest.raises(BuildError, match="no place for the table"):
        merge_samples("nothing", "here", [ours])
