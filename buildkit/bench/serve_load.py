"""Load on a service by h2load (nghttp2), and what became of each request. Parsing is pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.tools.process import Command, run

PATIENCE = 30.0  # seconds after which a client has given up: an answer that comes later is lost
_OK, _REFUSED = 200, 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many clients, each of which sends ``requests`` with the same file, one after another."""

    clip: Path
    clients: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What became of requests: seconds of those that were answered, in order of size; numbers of the others.

    ``refused`` were answered 503, ``lost`` otherwise, too late, or not at all. ``seconds`` is from the first request
    to the last answer.
    """

    answered: tuple[float, ...]
    refused: int
    lost: int
    seconds: float

    @property
    def requests(self) -> int:
        """All requests."""
        return len(self.answered) + self.refused + self.lost

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.answered) / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> float:
        """The share of requests without an answer, 0 to 1."""
        return (self.refused + self.lost) / self.requests if self.requests else 0.0

    def quantile(self, share: float) -> float:
        """Return the latency that this share of the answers stays within (nearest rank), NaN without answers."""
        rank = max(1, math.ceil(share * len(self.answered)))
        return self.answered[rank - 1] if self.answered else math.nan


def parse_log(text: str, expected: int) -> LoadResult:
    """Parse the file of h2load's ``--log-file``: start in µs, status (-1: failed), µs until the end of the answer.

    Of ``expected`` requests those without a line are lost.
    """
    rows = [tuple(map(int, line.split()[:3])) for line in text.splitlines() if line.strip()]
    answered = sorted(took / 1e6 for _, status, took in rows if status == _OK and took <= PATIENCE * 1e6)
    refused = sum(status == _REFUSED for _, status, _ in rows)
    begin, end = min((row[0] for row in rows), default=0), max((row[0] + row[2] for row in rows), default=0)
    return LoadResult(
        answered=tuple(answered),
        refused=refused,
        lost=max(expected, len(rows)) - len(answered) - refused,
        seconds=(end - begin) / 1e6,
    )


def run_load(url: str, load: Load, folder: Path) -> LoadResult:
    """Send the requests; ``folder`` is for the log. Raises MissingTool and ToolError."""
    log, expected = folder / "h2load.log", load.clients * load.requests
    log.unlink(missing_ok=True)
    argv = (
        "h2load", "--h1",
        "--threads", "1",
        "--clients", str(load.clients),
        "--requests", str(expected),
        "--data", str(load.clip),
        "--header", "content-type: audio/wav",
        "--log-file", str(log),
        url,
    )  # fmt: skip
    ran = run(Command(argv=argv, what=f"sending requests from {load.clients} clients"))
    if not log.is_file():
        raise BuildError("h2load wrote no log", hint="h2load --version: 1.46 or later?", output=ran.text)
    return parse_log(log.read_text("ascii"), expected)


def make_clip(path: Path, sentences: int) -> Path:
    """Write so many sentences of speech, about 2.7 s each, as WAV (mono, 22,050 Hz), spoken by espeak-ng."""
    text = " ".join(_SENTENCES[number % len(_SENTENCES)] for number in range(sentences))
    run(Command(argv=("espeak-ng", "-s", "150", "-w", str(path), text), what="making speech"))
    return path


_SENTENCES: Sequence[str] = (
    "This is a test of speech detection.",
    "It hears one voice, and then it hears nothing.",
    "The answer says where the voice begins and ends.",
)
