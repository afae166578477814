"""The cache of results, over a client that keeps them in memory, fails, or does not answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from clips import Clip, encode, wait_until_ready
from fastapi.testclient import TestClient
from redis.exceptions import ConnectionError as RedisConnectionError
from test_api import post, read_metrics

import cache
import records
from api import create_app
from cache import FilePassword, ResultCache, make_key
from metrics import Metrics
from segments import make_rules
from settings import Settings

MakeSettings = Callable[..., Settings]
RULES = make_rules(threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=30)


class Memory:
    """A client, and how it behaves."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.asked = 0
        self.error: Exception | None = None
        self.seconds = 0.0

    async def get(self, name: str, /) -> bytes | None:
        await self._behave()
        return self.kept.get(name)

    async def set(self, name: str, value: bytes, /, *, ex: int) -> None:
        await self._behave()
        assert ex == 86_400
        self.kept[name] = value

    async def aclose(self) -> None:
        await self._behave()

    async def _behave(self) -> None:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    kept = Memory()
    monkeypatch.setattr(cache.Redis, "from_url", lambda *_, **__: kept)
    return kept


def serve(make_settings: MakeSettings) -> TestClient:
    return TestClient(create_app(make_settings(cache="redis://redis")))


def lookups(client: TestClient, outcome: str) -> float:
    return read_metrics(client).get(f'speech_cache_lookups_total{{outcome="{outcome}"}}', 0)


def test_second_answer_comes_from_the_cache_and_equals_the_first(
    make_settings: MakeSettings, memory: Memory, speech: Clip
) -> None:
    data = encode(speech.samples, speech.rate)
    with serve(make_settings) as client:
        wait_until_ready(client)
        first = post(client, data)
        analysed = read_metrics(client)["speech_audio_seconds_total"]
        second = post(client, data)
        assert first.json()["segments"]
        assert first.content == second.content
        assert first.headers["cache-status"] == "speech; fwd=miss"
        assert second.headers["cache-status"] == "speech; hit"
        assert read_metrics(client)["speech_audio_seconds_total"] == analysed
        assert post(client, data, pad_ms=0).headers["cache-status"] == "speech; fwd=miss"
        assert post(client, data + b"\0\0").headers["cache-status"] == "speech; fwd=miss"
        assert (lookups(client, "hit"), lookups(client, "miss")) == (1, 3)


def test_without_a_cache_nothing_says_that_there_could_be_one(client: TestClient, speech: Clip) -> None:
    assert "cache-status" not in post(client, encode(speech.samples, speech.rate)).headers


@pytest.mark.parametrize("behaviour", ["error", "silence"])
def test_requests_are_answered_while_the_cache_fails(
    make_settings: MakeSettings,
    memory: Memory,
    speech: Clip,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
) -> None:
    memory.error = RedisConnectionError("refused") if behaviour == "error" else None
    memory.seconds = 60 if behaviour == "silence" else 0
    data = encode(speech.samples, speech.rate)
    with caplog.at_level(logging.INFO, "speech"), serve(make_settings) as client:
        wait_until_ready(client)
        for _ in range(3):
            answer = post(client, data)
            assert answer.status_code == 200
            assert answer.headers["cache-status"] == "speech; fwd=bypass"
        assert memory.asked == 1  # it is left alone for a while
        assert lookups(client, "unavailable") == 3
        memory.error, memory.seconds = None, 0
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + cache.PAUSE)
        assert post(client, data).headers["cache-status"] == "speech; fwd=miss"
        assert post(client, data).headers["cache-status"] == "speech; hit"
    said = [record.message for record in caplog.records if "the cache" in record.message]
    assert len(said) == 2
    why = "refused" if behaviour == "error" else "no answer in time"
    assert said[0] == f"the cache cannot be used, so every file is analysed: {why}"
    assert said[1] == "the cache can be used again"


async def answer_all(answer: bytes, client: Callable[[int], Awaitable[None]]) -> None:
    """Serve one answer to whatever is asked, while `client` gets the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await client(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    "answer",
    [
        b"$abc\r\n",
        b":x\r\n",
        b"$-5\r\n",
        b"*1\r\n" * 20_000,
        b"%1\r\n" * 20_000,
        b"+" + b"x" * 200_000 + b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe\r\n",
        b",x\r\n",
    ],
)
def test_what_is_no_answer_of_redis_fails_no_request(make_settings: MakeSettings, answer: bytes) -> None:
    async def ask(port: int) -> None:
        kept = cache.open_cache(make_settings(cache=f"redis://127.0.0.1:{port}"), Metrics())
        assert (await kept.find("key"))[0] is None
        await kept.stop()

    asyncio.run(answer_all(answer, ask))


def test_a_password_that_is_no_text_fails_no_request(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"good")
    settings = make_settings(cache="redis://127.0.0.1:1", cache_password_file=tmp_path / "password")
    (tmp_path / "password").write_bytes(b"\xff")

    async def ask(port: int) -> None:
        kept = cache.open_cache(settings.model_copy(update={"cache": f"redis://127.0.0.1:{port}"}), Metrics())
        assert await kept.find("key") == (None, "unavailable")
        await kept.stop()

    asyncio.run(answer_all(b"+OK\r\n", ask))


def test_what_is_no_result_is_a_miss(memory: Memory) -> None:
    found = ResultCache(memory, Metrics(), 86_400)
    for value in (b"", b"{}", b'{"kind": "wav"}', b"\xff", b"[" * 10_000):
        memory.kept["key"] = value
        assert asyncio.run(found.find("key")) == (None, "miss")


def test_key_changes_with_whatever_changes_the_answer() -> None:
    other = make_rules(threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=31)
    keys = {
        make_key("a" * 64, "b" * 64, "c" * 64, RULES),
        make_key("d" * 64, "b" * 64, "c" * 64, RULES),
        make_key("a" * 64, "d" * 64, "c" * 64, RULES),
        make_key("a" * 64, "b" * 64, "d" * 64, RULES),
        make_key("a" * 64, "b" * 64, "c" * 64, other),
    }
    assert len(keys) == 5
    assert cache.describe_code() == cache.describe_code()


def test_password_is_read_again_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    provider = FilePassword(file)
    for password in ("one", "two"):
        file.write_text(f"{password}\n", "utf-8")
        assert provider.get_credentials() == (password,)


def test_nothing_is_imported_for_what_is_off(make_settings: MakeSettings) -> None:
    assert not records.open_records(make_settings(), Metrics()).wanted
