"""What the service remembers: results in a cache, requests in a journal; each only if it is set.

The clients of Redis and PostgreSQL are imported when they are used: a service without them starts as fast as before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis import Analysis
from metrics import Metrics
from problems import Problem
from segments import RATE, Rules
from settings import Settings

if TYPE_CHECKING:
    from cache import ResultCache
    from journal import Journal


@dataclass(slots=True, kw_only=True)
class Noted:
    """What is known of a request so far."""

    content: str = ""
    model: str = ""
    bytes: int = 0
    lookup: str = ""
    analysis: Analysis | None = None


class Records:
    """The cache and the journal, or None for one that is not set."""

    def __init__(self, cache: ResultCache | None = None, journal: Journal | None = None, code: str = "") -> None:
        self._cache = cache
        self._journal = journal
        self._code = code

    @property
    def wanted(self) -> bool:
        """Whether anything is remembered, so that hashes are needed."""
        return self._cache is not None or self._journal is not None

    def start(self) -> None:
        """Begin to write the journal; from the event loop."""
        if self._journal is not None:
            self._journal.start()

    async def stop(self) -> None:
        """Write what waits, and close connections; bounded in time."""
        if self._journal is not None:
            await self._journal.stop()
        if self._cache is not None:
            await self._cache.stop()

    async def find(self, noted: Noted, rules: Rules) -> tuple[Analysis | None, str]:
        """Return the result that is kept for a request, or None, and how that went; ("" without a cache)."""
        return (None, "") if self._cache is None else await self._cache.find(self._key(noted, rules))

    async def keep(self, noted: Noted, rules: Rules, analysis: Analysis) -> None:
        """Keep the result of a request."""
        if self._cache is not None:
            await self._cache.keep(self._key(noted, rules), analysis)

    def _key(self, noted: Noted, rules: Rules) -> str:
        from cache import make_key

        return make_key(noted.content, noted.model, self._code, rules)

    @contextmanager
    def note(self) -> Iterator[Noted]:
        """Note a request, however it ends."""
        noted, begun = Noted(), time.perf_counter()
        status, code = 500, "internal"
        try:
            yield noted
            status, code = 200, ""
        except Problem as problem:
            status, code = problem.status, problem.code
            raise
        finally:
            if self._journal is not None:
                self._add(self._journal, noted, (status, code), time.perf_counter() - begun)

    def _add(self, journal: Journal, noted: Noted, ended: tuple[int, str], took: float) -> None:
        from journal import Row

        analysis = noted.analysis
        segments = () if analysis is None else analysis.segments
        row = Row(
            status=ended[0],
            code=ended[1],
            content=noted.content,
            model=noted.model,
            bytes=noted.bytes,
            seconds=0.0 if analysis is None else analysis.seconds,
            segments=len(segments),
            speech=sum(one.end - one.start for one in segments) / RATE,
            cache=noted.lookup,
            took=took,
        )
        journal.add(row)


def open_records(settings: Settings, metrics: Metrics) -> Records:
    """Return what the settings ask for; nothing is connected yet."""
    cache = journal = None
    code = ""
    if settings.cache:
        from cache import describe_code, open_cache

        cache, code = open_cache(settings, metrics), describe_code()
    if settings.journal:
        from journal import open_journal

        journal = open_journal(settings, metrics)
    return Records(cache, journal, code)
