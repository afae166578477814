"""What the page's addresses answer: the document, and a stream of server-sent events.

The form of events is that of the HTML standard, 9.2.6 (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping

from buildkit.monitor.exporter import HttpReply, MonitorRequest, Route
from buildkit.monitor.page.document import load_page
from buildkit.monitor.page.feed import PageEvent, PageFeed

_BEAT = 5.0  # seconds; a line is sent at least that often, or a client that is gone would never be noticed
_NUMBER = re.compile("[0-9]{1,18}")
_AFTER = re.compile("(?:^|&)after=([0-9a-f]+-[0-9]+)(?:&|$)")


def make_routes(feed: PageFeed, *, beat: float = _BEAT) -> Mapping[str, Route]:
    """Return what answers ``/`` and ``/events``, by path."""

    def show(_request: MonitorRequest) -> HttpReply:
        page = load_page()
        headers = (("Content-Security-Policy", page.policy), ("Referrer-Policy", "no-referrer"))
        return HttpReply(body=page.html, content_type="text/html; charset=utf-8", headers=headers)

    def follow(request: MonitorRequest) -> HttpReply:
        return HttpReply(body=stream_events(feed, find_position(feed, request), beat), content_type="text/event-stream")

    return {"/": show, "/events": follow}


def find_position(feed: PageFeed, request: MonitorRequest) -> int:
    """Return the number of the last event that a client has; 0 if it has none of this feed.

    A browser that reconnects by itself sends the header ``Last-Event-ID``; the page, which does it with growing pauses,
    sends the same as ``after``.
    """
    found = _AFTER.search(request.query)
    name, _, number = (found[1] if found else request.headers.get("last-event-id", "")).partition("-")
    return min(int(number), feed.number) if name == feed.name and _NUMBER.fullmatch(number) else 0


def stream_events(feed: PageFeed, after: int, beat: float) -> Generator[bytes]:
    """Yield the events after a number, as they come, until the feed is closed: first the time and the number now.

    A comment is sent after ``beat`` seconds without an event.
    """
    with feed.reading():
        hello = json.dumps({"now": feed.wall(), "number": feed.number})
        yield f"event: hello\ndata: {hello}\n\n".encode()
        while True:
            events = feed.wait(after, beat)
            for event in events:
                yield format_event(feed.name, event)
                after = event.number
            if feed.is_closed:
                return
            if not events:
                yield b":\n\n"


def format_event(name: str, event: PageEvent) -> bytes:
    """Return an event in the form of the standard; JSON has no line breaks."""
    return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (name.encode(), event.number, event.kind.encode(), event.data)
