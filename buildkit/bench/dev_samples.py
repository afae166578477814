"""What a benchmark of the development loop measures, and how it is shown."""

from __future__ import annotations

import json
import re
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from buildkit.errors import BuildError
from buildkit.tools.scrape import format_address

_POLL = 0.004  # seconds between requests
_LIMIT = 120.0  # seconds until a measurement fails
_TABLE = re.compile(r"(<!-- bench-dev -->\n)(.*?)(<!-- end of bench-dev -->)", re.DOTALL)
OURS = "nox -s dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevSample:
    """Times of one kind, in seconds; ``failed`` requests were refused or broken meanwhile."""

    who: str
    what: str
    seconds: tuple[float, ...]
    failed: int = 0

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)

    @property
    def worst(self) -> float:
        """The longest time in seconds."""
        return max(self.seconds)


@dataclass(slots=True)
class Poller:
    """Asks one address again and again; counts requests that get no answer."""

    url: str
    failed: int = 0

    def ask(self) -> bytes:
        """Return the body of an answer of any status; empty if there is none."""
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.request("GET", parts.path or "/")
            return connection.getresponse().read()
        except (OSError, HTTPException):
            self.failed += 1
            return b""
        finally:
            connection.close()

    def until(self, text: str) -> None:
        """Wait for an answer with this text. Raises BuildError after two minutes."""
        end = time.monotonic() + _LIMIT
        while text.encode() not in self.ask():
            if time.monotonic() > end:
                shown = format_address(self.url)
                raise BuildError(f"{shown} does not answer with `{text}`", hint="--text names what the answer shows")
            time.sleep(_POLL)


def measure_edits(
    path: Path, text: str, poller: Poller, repeat: int, after: Callable[[], None] = lambda: None
) -> tuple[float, ...]:
    """Return the seconds from each save to the first answer with its text; ``path`` is as before at the end.

    ``after`` is called after each save, for tools that must be told.
    """
    before = path.read_text("utf-8")
    if text not in before:
        raise BuildError(f"{path}: `{text}` is not in it", hint="--text names a text that an answer shows")
    found = []
    try:
        for number in range(repeat):
            edition = f"edition {number} of {repeat}"
            began = time.monotonic()
            path.write_text(before.replace(text, edition), "utf-8")
            after()
            poller.until(edition)
            found.append(time.monotonic() - began)
            time.sleep(0.5)  # people save less often, and a standby is made meanwhile
    finally:
        path.write_text(before, "utf-8")
    after()
    poller.until(text)
    return tuple(found)


def attach_debugger(port: int) -> float:
    """Attach as an editor does (Debug Adapter Protocol), detach, and return the seconds until it was attached."""
    began = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_LIMIT) as connection,
        connection.makefile("rb") as answers,
    ):

        def send(number: int, command: str, **arguments: object) -> None:
            body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
            connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)

        def await_message(kind: str, name: str) -> None:
            while True:
                length = 0
                while (line := answers.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                if not length:
                    raise BuildError(f"the debugger ended the connection before {name}")
                message = json.loads(answers.read(length))
                if message.get("type") == kind and message.get("command", message.get("event")) == name:
                    return

        send(1, "initialize", adapterID="bench", clientID="bench", pathFormat="path")
        await_message("response", "initialize")
        send(2, "attach", justMyCode=False)
        await_message("event", "initialized")
        send(3, "configurationDone")
        await_message("response", "attach")
        took = time.monotonic() - began
        send(4, "disconnect", terminateDebuggee=False)
        await_message("response", "disconnect")
    return took


def merge_samples(document: str, host: str, samples: Sequence[DevSample]) -> str:
    """Return a document whose table between the two marks has the samples of ``host`` as a column.

    Columns of other hosts stay. A cell is the median and the worst time, how many there were, and for other ways than
    ours the ratio of the medians. Raises BuildError if the document has no place for the table.
    """
    found = _TABLE.search(document)
    if found is None:
        raise BuildError(
            "the document has no place for the table", hint="<!-- bench-dev --> … <!-- end of bench-dev -->"
        )
    return document[: found.end(1)] + _merge(found[2], host, samples) + document[found.start(3) :]


def render_samples(host: str, samples: Sequence[DevSample]) -> str:
    """Return a Markdown table of one host."""
    return _merge("", host, samples)


def _merge(table: str, host: str, samples: Sequence[DevSample]) -> str:
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines() if "|" in line]
    hosts = lines[0][2:] if lines else []
    rows = {(row[0], row[1]): dict(zip(hosts, row[2:], strict=True)) for row in lines[2:]}
    for cells in rows.values():
        cells.pop(host, None)
    ours = {one.what: one.median for one in samples if one.who == OURS}
    for one in samples:
        rows.setdefault((one.what, one.who), {})[host] = _format_cell(one, ours.get(one.what, 0.0))
    hosts = [*hosts, *(() if host in hosts else (host,))]
    head = ["what", "by", *hosts]
    body = [[*names, *(cells.get(one, "") for one in hosts)] for names, cells in rows.items() if any(cells.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---", "---", *("---:" for _ in hosts)], *body))


def _format_cell(one: DevSample, ours: float) -> str:
    times = _format(one.median) if len(one.seconds) == 1 else f"{_format(one.median)} / {_format(one.worst)}"
    ratio = f", {one.median / ours:.1f} ×" if ours and one.who != OURS else ""
    lost = f", {one.failed} lost" if one.failed else ""
    return f"{times} ({len(one.seconds)}){ratio}{lost}"


def _format(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms" if seconds < 1 else f"{seconds:.1f} s"
