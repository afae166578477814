"""The page in a real browser: one start, one load, and what users see of it, on a desk and on a phone.

BUILDKIT_SCREENSHOTS=FOLDER keeps the pictures.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from itertools import takewhile
from pathlib import Path

import pytest

from buildkit.monitor.exporter import HttpReply, MonitorRequest, MonitorServer
from buildkit.monitor.page.feed import PageFeed
from buildkit.monitor.page.handlers import make_routes
from buildkit.monitor.page.view import MOST_CONTAINERS, view_snapshot
from buildkit.monitor.snapshot import Snapshot
from buildkit.monitor.state import MonitorState
from tests.monitor.page.browser import BrowserPage, find_browser, open_browser
from tests.monitor.page.samples import (
    FINDINGS,
    GPUS,
    HOSTILE,
    make_builds,
    make_services,
    make_snapshot,
    make_view,
)

_ASSETS = resources.files("buildkit.monitor.page").joinpath("assets")
_PAST = 120  # seconds
_TEXT = "document.querySelector('main').innerText"
_ROWS = "[...document.querySelectorAll('#containers-table tbody tr')]"
_NAMES = f"{_ROWS}.map((row) => row.querySelector('th bdi').textContent)"
_STATE = "document.querySelector('#state').dataset.state"
_DRAWN = """[...document.querySelectorAll('canvas')].filter((one) => one.offsetParent).map((one) =>
  one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some((value) => value > 0))"""
_UNNAMED = """[...document.querySelectorAll('button, input, [role=img], [role=table], section')].filter((one) =>
  !(one.textContent.trim() && one.tagName === 'BUTTON') && !one.getAttribute('aria-label')
  && !one.getAttribute('aria-labelledby') && !one.labels?.length).map((one) => one.outerHTML)"""
_NARROW = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def _look(feed: PageFeed, at: float, second: int) -> None:
    feed.publish("snapshot", {**view_snapshot(make_snapshot(at, second)), "gpus": list(GPUS)})


def _look_at_one(feed: PageFeed, name: str) -> None:
    feed.publish("snapshot", view_snapshot(replace(make_snapshot(time.time()), containers=(make_view(name),))))


@contextmanager
def _serving(feed: PageFeed, port: int = 0) -> Iterator[MonitorServer]:
    """Serve a feed as the monitor does; at the end its streams are cut, though the feed goes on."""
    cut = threading.Event()

    def follow(request: MonitorRequest) -> HttpReply:
        reply = make_routes(feed, beat=0.2)["/events"](request)
        return replace(reply, body=takewhile(lambda _: not cut.is_set(), reply.body))

    routes = {**make_routes(feed), "/events": follow}
    with MonitorServer(("127.0.0.1", port), lambda: MonitorState(time=0.0), routes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            cut.set()
            server.shutdown()
            thread.join()


@contextmanager
def _looking(look: Callable[[], None]) -> Iterator[None]:
    """Look every half second until the block ends: a page is live while looks come, however slow the machine is."""
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(0.5):
            look()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("BUILDKIT_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.skipif(not find_browser(), reason="Ubuntu has Chromium as a snap alone")
def test_page_shows_everything_live_and_harmlessly(tmp_path: Path, shots: Path) -> None:
    feed, now = PageFeed(), time.time()
    for second in range(_PAST):
        _look(feed, now - _PAST + second, second)
        if second % 5 == 0:
            feed.publish("services", make_services(now - _PAST + second, second))
    feed.publish("builds", make_builds(now))
    feed.publish("findings", FINDINGS)
    with open_browser(tmp_path) as page:
        with _serving(feed) as server:
            page.prefer("light")
            page.resize(1440, 900)
            url = f"http://127.0.0.1:{server.port}"
            page.open(url)
            with _looking(lambda: _look(feed, time.time(), 0)):
                page.until(f"{_STATE} === 'live' && {_ROWS}.length === 6")
            _check_contents(page, url)
            page.shoot(shots / "desktop.png", whole=False)
            _check_live(page, feed)
            _check_keyboard(page, feed)
            _check_many(page, feed)
            _check_phone(page, feed, shots)
            _check_past(page)
            page.until(f"{_STATE} === 'stale'")  # no look for some seconds, though the stream is there
            assert "old" in page.evaluate("document.querySelector('#age').textContent")
        page.until(f"{_STATE} === 'lost'")
        _look_at_one(feed, "meanwhile")
        with _serving(feed, server.port), _looking(lambda: _look_at_one(feed, "meanwhile")):
            page.until(f"{_STATE} === 'live' && {_NAMES}.join() === 'meanwhile'")
        assert f"after={feed.name}-" in page.requested[-1]  # what it has is not sent again


def _check_contents(page: BrowserPage, url: str) -> None:
    """Everything is there, drawn, named for those who listen to it, and taken from this server alone."""
    text = page.evaluate(_TEXT)
    for words in ("worker", "NVIDIA H200", "silero-vad", "1f0a22c4d5e6", "speech 0.27", "no answer", "RUN004", "74 %"):
        assert words in text
    assert HOSTILE.replace("\u202e", "\ufffd") in text
    assert page.evaluate("document.querySelectorAll('img, b bdi b').length") == 0
    assert page.evaluate("document.title") == "(2) xoe-monitor"
    drawn = page.until(f"(() => {{ const all = {_DRAWN}; return all.length === 7 && all; }})()")
    assert drawn == [True] * 7
    assert page.evaluate(_UNNAMED) == []
    assert page.evaluate("[...document.querySelectorAll('[role=img]')].every((one) => one.ariaLabel.includes(' '))")
    refused = (
        "(() => { try { document.body.innerHTML = '<i>'; return false; } catch (error) { return error.name; } })()"
    )
    assert page.evaluate(refused) == "TypeError"  # the browser takes no text for HTML, even from the page's own script
    page.console[:] = [line for line in page.console if "TrustedHTML" not in line]
    assert page.console == []
    assert {address for address in page.requested if not address.startswith((url, "data:"))} == set()


def _check_live(page: BrowserPage, feed: PageFeed) -> None:
    """A new look changes what is shown; rows stay where they are."""
    page.evaluate(f"{_ROWS}.forEach((row) => {{ row.mark = row.querySelector('th bdi').textContent; }})")
    view = view_snapshot(replace(make_snapshot(time.time()), containers=(make_view("app", cpu=1.77), make_view("new"))))
    feed.publish("snapshot", view)
    page.until(f"{_NAMES}.join() === 'app,new'")
    assert "1.77 of 2.00" in page.evaluate(_TEXT)
    assert page.evaluate(f"{_ROWS}.map((row) => row.mark ?? null)") == ["app", None]
    _look(feed, time.time(), 1)
    page.until(f"{_ROWS}.length === 6")


def _check_keyboard(page: BrowserPage, feed: PageFeed) -> None:
    """Tables are sorted, containers chosen and charts read without a mouse; a look does not take the focus away."""
    page.evaluate("[...document.querySelectorAll('#containers-table thead button')][3].focus()")
    page.press("Enter")
    assert page.evaluate(_NAMES)[:3] == ["worker", "app", "app-candidate"]  # by memory
    assert page.evaluate("document.activeElement.parentElement.ariaSort") == "descending"
    page.evaluate(f"{_ROWS}[4].querySelector('button').focus()")
    page.press("Enter")
    _look(feed, time.time(), 2)
    page.until("document.querySelectorAll('#container-charts figure:first-child .legend li').length === 1")
    assert page.evaluate("document.activeElement.ariaPressed") == "true"
    page.evaluate("document.querySelector('#container-charts .plot').focus()")
    page.press("Home")
    page.press("ArrowLeft")
    assert page.until("document.querySelector('#container-charts output').textContent")
    page.evaluate(f"{_ROWS}[4].querySelector('button').click()")
    page.evaluate("document.querySelector('#find').value = 'POSTGRES'")
    page.evaluate("document.querySelector('#find').dispatchEvent(new Event('input'))")
    assert page.evaluate(_NAMES) == ["postgres"]
    page.evaluate("document.querySelector('#find').value = ''")


def _check_many(page: BrowserPage, feed: PageFeed) -> None:
    """A thousand containers are sent and shown in part, and it is said."""
    views = tuple(make_view(f"c{number}") for number in range(1000))
    feed.publish("snapshot", view_snapshot(Snapshot(time=time.time(), containers=views)))
    page.until(f"{_ROWS}.length === {MOST_CONTAINERS}")
    assert "800 of 1000 containers are left out" in page.evaluate(_TEXT)


def _check_phone(page: BrowserPage, feed: PageFeed, shots: Path) -> None:
    """On a narrow screen rows are cards, and nothing is wider than the screen."""
    page.resize(390, 844, phone=True)
    page.prefer("dark")
    _look(feed, time.time(), 3)
    page.until(f"{_NARROW} && {_ROWS}.length === 6")
    assert page.evaluate(f"getComputedStyle({_ROWS}[0]).display") == "block"
    back = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(back) == "rgb(15, 18, 21)"
    page.shoot(shots / "phone.png")
    page.evaluate("document.querySelector('#theme').click()")
    assert page.evaluate(back) == "rgb(244, 245, 247)"  # chosen, whatever the system prefers


def _check_past(page: BrowserPage) -> None:
    """What the browser keeps is bounded, has gaps where nothing came, and begins anew when the clock was set back."""
    script = _ASSETS.joinpath("past.js").read_text("utf-8")
    use = """
      const past = new Past(5, 3);
      for (let time = 1; time <= 100; time += 1) past.push(time, [["app", time], [`gone${time}`, 1]]);
      const grown = structuredClone([past.times, past.series.get("app"), past.series.size]);
      past.push(100, [["app", 0]]);
      const again = past.times.length;
      past.push(200, [["app", 7], ["b", 9], ["c", null]]);
      const chosen = [past.choose(5), past.choose(5, new Set(["app"]))];
      const gap = [past.times.slice(-2), past.series.get("app").slice(-2), ...chosen];
      past.push(50, [["app", 1]]);
      return [grown, again, gap, past.times];
    """
    grown, again, gap, back = page.evaluate(f"(() => {{ {script} {use} }})()")
    assert grown == [[96, 97, 98, 99, 100], [96, 97, 98, 99, 100], 3]
    assert again == 5
    assert gap == [[115, 200], [None, 7], ["b", "app"], ["app"]]
    assert back == [50]
