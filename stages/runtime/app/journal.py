"""One row for each request to `/v1/speech`, in PostgreSQL: optional, and never the reason why a request fails or waits.

Rows wait in memory, at most `WAITING` of them, and are written together by one task. What cannot be written in time is
dropped and counted. A row names the audio by its hash and holds neither audio nor who sent it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg  # type: ignore[import-untyped]

from metrics import Metrics
from secret_file import read_secret
from settings import Settings

WAITING = 1000  # rows in memory
TOGETHER = 100  # rows of one write
LIMIT = 5.0  # seconds for a connection, and for a write
PAUSE = 2.0  # seconds after a failure
FLUSH = 1.0  # seconds for the last rows when the service stops

TABLE = """
create table if not exists speech_requests (
    id uuid primary key, at timestamptz not null, status integer not null, code text not null, content text not null,
    model text not null, bytes bigint not null, seconds double precision not null, segments integer not null,
    speech double precision not null, cache text not null, took double precision not null
)
"""
INSERT = """
insert into speech_requests values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict (id) do nothing
"""

log = logging.getLogger("speech")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A request, in the order of the table's columns; hashes are SHA-256 in hexadecimal, times are seconds.

    What a refused request did not get to is empty or 0; `code` is that of its problem document.
    """

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: int
    code: str = ""
    content: str = ""
    model: str = ""
    bytes: int = 0
    seconds: float = 0.0
    segments: int = 0
    speech: float = 0.0
    cache: str = ""
    took: float = 0.0


class Connection(Protocol):
    """What is needed of a connection to PostgreSQL."""

    async def execute(self, query: str, /) -> object:
        """Run a command."""

    async def executemany(self, command: str, args: Sequence[tuple[Any, ...]], /) -> object:
        """Run a command for each tuple of values, all or none."""

    async def close(self, *, timeout: float) -> None:
        """Close it, in so many seconds."""


class Journal:
    """Takes rows and writes them in the background. It says once that it cannot, and once that it can again."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], metrics: Metrics) -> None:
        self._connect = connect
        self._rows = metrics.rows
        self._waiting: asyncio.Queue[Row] = asyncio.Queue(WAITING)
        self._unwritten = 0  # that wait, or are being written
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    def start(self) -> None:
        """Begin to write; from the event loop."""
        self._task = asyncio.create_task(self._write_all())

    def add(self, row: Row) -> None:
        """Take a row, or drop it where too many wait."""
        try:
            self._waiting.put_nowait(row)
            self._unwritten += 1
        except asyncio.QueueFull:
            self._rows.labels("dropped").inc()

    async def stop(self) -> None:
        """Write what waits, for `FLUSH` seconds at most, and drop the rest."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH):
                await self._waiting.join()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._disconnect()
        if self._unwritten:
            log.warning("the journal lacks the last %d requests", self._unwritten)
            self._rows.labels("dropped").inc(self._unwritten)

    async def _write_all(self) -> None:
        while True:
            rows = [await self._waiting.get()]
            while len(rows) < TOGETHER and not self._waiting.empty():
                rows.append(self._waiting.get_nowait())
            while not await self._write([astuple(row) for row in rows]):
                await asyncio.sleep(PAUSE)
            self._rows.labels("written").inc(len(rows))
            self._unwritten -= len(rows)
            for _ in rows:
                self._waiting.task_done()

    async def _write(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        try:
            async with asyncio.timeout(LIMIT):
                if self._connection is None:
                    self._connection = await self._connect()
                    await self._connection.execute(TABLE)
                await self._connection.executemany(INSERT, rows)
        except Exception as error:  # noqa: BLE001 - the client raises anything for what is no answer of PostgreSQL
            if not self._failed:
                log.warning("the journal cannot be written, so rows wait: %s", f"{error}" or "no answer in time")
            self._failed = True
            await self._disconnect()
            return False
        if self._failed:
            log.info("the journal can be written again")
        self._failed = False
        return True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # there is nothing left to close
                await connection.close(timeout=FLUSH)


def open_journal(settings: Settings, metrics: Metrics) -> Journal:
    """Return the journal at `settings.journal`; nothing is connected yet."""

    async def connect() -> Connection:
        password = read_secret(settings.journal_password_file)
        connected = asyncpg.connect(settings.journal, password=password, timeout=LIMIT)
        connection: Connection = await connected
        return connection

    return Journal(connect, metrics)
