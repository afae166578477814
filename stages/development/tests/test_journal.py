"""The journal of requests, over a connection that takes rows, fails, or does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from asyncpg.exceptions import CannotConnectNowError, ProtocolError
from clips import Clip, encode, wait_until_ready
from fastapi.testclient import TestClient
from test_api import check_problem, post

import journal
from api import create_app
from journal import Journal, Row
from metrics import Metrics
from settings import Settings

MakeSettings = Callable[..., Settings]
COLUMNS = ("id", "at", "status", "code", "content", "model", "bytes", "seconds", "segments", "speech", "cache", "took")


class Database:
    """A connection, and how it behaves."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        self.tried = 0

    async def connect(self, *_: object, **__: object) -> Database:
        self.tried += 1
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return self

    async def execute(self, query: str, /) -> None:
        assert [line.split()[0] for line in query.partition("(")[2].rpartition(")")[0].split(",")] == [*COLUMNS]

    async def executemany(self, command: str, args: Sequence[tuple[Any, ...]], /) -> None:
        assert command.count("$") == len(COLUMNS)
        self.rows += [dict(zip(COLUMNS, row, strict=True)) for row in args]

    async def close(self, *, timeout: float) -> None:
        self.tried += 100


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    found = Database()
    monkeypatch.setattr(journal.asyncpg, "connect", found.connect)
    return found


def test_each_request_becomes_a_row(make_settings: MakeSettings, database: Database, speech: Clip) -> None:
    data = encode(speech.samples, speech.rate)
    with TestClient(create_app(make_settings(journal="postgresql://app@db/app"))) as client:
        wait_until_ready(client)
        body = post(client, data).json()
        check_problem(post(client, b"no audio"), 400, "not_audio")
        check_problem(post(client, data, "video/mp4"), 415, "unsupported_type")
        assert client.get("/metrics").status_code == 200
    good, bad, refused = database.rows
    assert (good["status"], good["code"], good["bytes"], good["cache"]) == (200, "", len(data), "")
    assert good["segments"] == len(body["segments"]) > 0
    assert good["seconds"] == pytest.approx(body["audio"]["duration"], abs=0.001)
    assert good["speech"] == pytest.approx(body["speech_seconds"], abs=0.1)
    assert len(good["content"]) == len(good["model"]) == 64
    assert (bad["status"], bad["code"], bad["segments"], bad["bytes"]) == (400, "not_audio", 0, 8)
    assert (refused["status"], refused["code"], refused["content"]) == (415, "unsupported_type", "")
    assert len({row["id"] for row in database.rows}) == 3


@pytest.mark.parametrize("kind", [CannotConnectNowError, ProtocolError, ValueError])
def test_requests_are_answered_and_rows_wait_while_the_journal_fails(
    make_settings: MakeSettings,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    monkeypatch.setattr(journal, "PAUSE", 0.01)
    database.error = kind("the database system is starting up")
    quiet = encode(np.zeros(16_000, np.float32), 16_000)
    with (
        caplog.at_level(logging.INFO, "speech"),
        TestClient(create_app(make_settings(journal="postgresql://app@db/app"))) as client,
    ):
        wait_until_ready(client)
        assert [post(client, quiet).status_code for _ in range(3)] == [200] * 3
        while database.tried < 3:
            post(client, quiet)
        assert database.rows == []
        database.error = None
    assert len(database.rows) >= 3  # those that waited, too
    said = [record.message for record in caplog.records if "the journal" in record.message]
    assert said == [
        "the journal cannot be written, so rows wait: the database system is starting up",
        "the journal can be written again",
    ]


def test_what_cannot_be_written_is_dropped_and_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FLUSH", 0.05)
    metrics = Metrics()
    database.seconds = 60

    async def fill() -> None:
        taken = Journal(database.connect, metrics)
        taken.start()
        await asyncio.sleep(0)
        for _ in range(journal.WAITING + 5):
            taken.add(Row(status=200))
        await taken.stop()

    asyncio.run(fill())
    assert b'speech_journal_rows_total{outcome="dropped"} 1005.0' in metrics.render()
    assert database.rows == []
