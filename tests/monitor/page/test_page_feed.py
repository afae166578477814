"""What pages get, and when: the feed, its streams, and the answers of the page's addresses."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Generator, Iterator
from http.client import HTTPConnection
from importlib import resources
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from buildkit.monitor.exporter import HttpReply, MonitorRequest, MonitorServer
from buildkit.monitor.page.document import load_page
from buildkit.monitor.page.feed import PageFeed
from buildkit.monitor.page.handlers import find_position, make_routes
from buildkit.monitor.page.pump import pumping
from buildkit.monitor.routes import open_routes
from buildkit.monitor.state import MonitorState


def _ask(query: str = "", last: str = "") -> MonitorRequest:
    headers = {"last-event-id": last} if last else {}
    return MonitorRequest(path="/events", query=query, headers=headers, state=lambda: MonitorState(time=0.0))


def _read(stream: Iterator[bytes], count: int) -> list[dict[str, str]]:
    """Return the fields of the next events; comments are left out."""
    found: list[dict[str, str]] = []
    while len(found) < count:
        text = next(stream).decode()
        assert text.endswith("\n\n")
        if not text.startswith(":"):
            found.append(dict(line.split(": ", 1) for line in text.strip().split("\n")))  # type: ignore[misc]
    return found


def _follow(answer: HttpReply) -> Generator[bytes]:
    assert isinstance(answer.body, Generator)
    return answer.body


def test_client_that_comes_later_gets_the_past_and_then_what_comes() -> None:
    feed = PageFeed(wall=lambda: 7.5)
    feed.publish("builds", {"builds": []})
    feed.publish("snapshot", {"time": 1})
    stream = _follow(make_routes(feed)["/events"](_ask()))
    hello, builds, snapshot = _read(stream, 3)
    assert hello == {"event": "hello", "data": json.dumps({"now": 7.5, "number": 2})}
    assert (builds["event"], builds["data"], builds["id"]) == ("builds", '{"builds":[]}', f"{feed.name}-1")
    assert snapshot["id"] == f"{feed.name}-2"
    threading.Timer(0.05, feed.publish, ("snapshot", {"time": 2})).start()
    assert _read(stream, 1)[0]["data"] == '{"time":2}'
    stream.close()


@pytest.mark.parametrize(
    ("asked", "position"),
    [("-2", 2), ("-3", 3), ("-999", 3), ("-²", 0), ("-" + "9" * 19, 0), ("--1", 0), ("", 0), ("other-2", 0)],
)
def test_client_that_comes_back_goes_on_where_it_was(asked: str, position: int) -> None:
    feed = PageFeed()
    for number in range(3):
        feed.publish("snapshot", {"time": number})
    last = asked if asked.startswith("other") else feed.name + asked
    assert find_position(feed, _ask(last=last)) == position
    assert find_position(feed, _ask(f"a=b&after={last}")) == position
    stream = _follow(make_routes(feed)["/events"](_ask(f"a=b&after={last}")))
    feed.publish("snapshot", {"time": 3})
    assert [json.loads(one["data"])["time"] for one in _read(stream, 5 - position)[1:]] == list(range(position, 4))
    stream.close()


def test_past_is_bounded_by_count_and_bytes_but_the_latest_of_each_kind_stays() -> None:
    feed = PageFeed(past_events=5, past_bytes=200)
    feed.publish("builds", {"builds": ["kept"]})
    for number in range(100):
        feed.publish("snapshot", {"time": number})
    events = feed.wait(0, 0)
    assert [event.kind for event in events] == ["builds"] + ["snapshot"] * 5
    feed.publish("snapshot", {"text": "x" * 500})
    assert [event.number for event in feed.wait(0, 0)] == [1, 102]  # larger than all the room there is


def test_numbers_that_json_lacks_are_null() -> None:
    feed = PageFeed()
    feed.publish("services", {"p95": math.nan, "models": [{"errors": -math.inf, "requests": 1.5}]})
    assert feed.wait(0, 0)[0].data == b'{"p95":null,"models":[{"errors":null,"requests":1.5}]}'


def test_stream_says_something_while_nothing_happens_and_ends_with_the_feed() -> None:
    feed = PageFeed()
    stream = _follow(make_routes(feed, beat=0.01)["/events"](_ask()))
    assert b"hello" in next(stream)
    assert next(stream) == b":\n\n"
    feed.publish("snapshot", {})
    feed.close()
    assert [line for line in stream if b"snapshot" in line]  # what was published before the end is not lost
    with pytest.raises(StopIteration):
        next(stream)


def test_feed_knows_whether_a_page_is_open() -> None:
    feed = PageFeed()
    stream = _follow(make_routes(feed)["/events"](_ask()))
    assert not feed.has_readers
    next(stream)
    assert feed.has_readers
    stream.close()  # as the server does when the client has gone
    assert not feed.has_readers


def test_page_is_one_document_and_its_policy_allows_nothing_else() -> None:
    answer = make_routes(PageFeed())["/"](_ask())
    headers = dict(answer.headers)
    assert isinstance(answer.body, bytes)
    html, policy = answer.body.decode(), headers["Content-Security-Policy"]
    assert "<!-- s" not in html
    assert not [
        mark
        for mark in ("src=", "http://", "https://", " style=", " on", "@import", "url(")
        if f" {mark}" in html.split("<script>")[0]
    ]
    assert policy.count("'sha256-") == html.count("<script>") + html.count("<style>") == 4
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(answer.body) < 100_000  # one request on a phone
    assert load_page() is load_page()


def test_pump_publishes_what_changed_and_nothing_twice() -> None:
    feed = PageFeed()
    looks = iter([{"snapshot": {"time": 1}, "builds": {"n": 1}}, {"snapshot": {"time": 2}, "builds": {"n": 1}}, {}])
    done = threading.Event()

    def read() -> dict[str, object]:
        try:
            return next(looks)
        except StopIteration:
            done.set()
            return {"builds": {"n": 1}}  # after a look that knew nothing

    with pumping(feed, read, every=0.001, seldom=0.001):
        assert done.wait(30)
    assert [(event.kind, event.data) for event in feed.wait(0, 0)] == [
        ("snapshot", b'{"time":1}'),
        ("builds", b'{"n":1}'),
        ("snapshot", b'{"time":2}'),
    ]
    assert feed.is_closed


def test_monitor_serves_the_page_and_what_it_knows() -> None:
    state = MonitorState(time=1.0, document={"snapshot": {"time": 1.0}})
    with open_routes(lambda: state) as routes, MonitorServer(("127.0.0.1", 0), lambda: state, routes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/")
        page = connection.getresponse()
        assert page.read() == load_page().html
        assert page.headers["Content-Security-Policy"] == load_page().policy
        connection.request("GET", "/events")
        stream = connection.getresponse()
        lines = [stream.readline().decode().strip() for _ in range(6)]
        assert (lines[0], lines[4:]) == ("event: hello", ["event: snapshot", 'data: {"time":1.0}'])
        connection.close()
        server.shutdown()
        thread.join()


def test_page_needs_no_more_of_python_than_the_image_of_the_monitor_keeps() -> None:
    code = (
        "import sys; import buildkit.monitor.__main__, buildkit.monitor.page.document as page; page.load_page(); "
        "print(*{name.partition('.')[0] for name, module in sys.modules.items() if hasattr(module, '__path__')})"
    )
    said = subprocess.run((sys.executable, "-S", "-c", code), check=True, capture_output=True, text=True).stdout
    kept = Path("buildkit/observe/project/stages/monitor/kept.txt").read_text("utf-8")
    packages = set(re.findall(r"^!usr/lib/python3.13/(\w+)/\*\*$", kept, re.MULTILINE))
    assert set(said.split()) - packages == {"buildkit"}


_VENDORED = {  # of the npm package uplot 1.6.32: dist/uPlot.iife.min.js, dist/uPlot.min.css, LICENSE
    "uplot.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def test_foreign_files_are_those_that_were_reviewed_and_are_named_with_their_licence() -> None:
    assets = resources.files("buildkit.monitor.page").joinpath("assets")
    found = {name: hashlib.sha256(assets.joinpath(name).read_bytes()).hexdigest() for name in _VENDORED}
    assert found == _VENDORED
    bom = assets.joinpath("uplot.cdx.json").read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None
    (component,) = json.loads(bom)["components"]
    assert f"(v{component['version']})" in assets.joinpath("uplot.js").read_text("utf-8")[:200]
    metadata = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    folder = "buildkit/monitor/page/assets"
    assert f"{folder}/uplot.LICENSE" in metadata["project"]["license-files"]
    assert metadata["tool"]["hatch"]["build"]["targets"]["wheel"]["sbom-files"] == [f"{folder}/uplot.cdx.json"]
