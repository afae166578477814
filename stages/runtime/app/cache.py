"""Results that were found before, in Redis: optional, and never the reason why a request fails or waits for long.

A key names the audio's bytes, the model's, the rules, and the code and libraries that would answer: whatever changes
the answer changes the key. Values are the analysis as JSON, and are checked when they are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from analysis import Analysis
from metrics import Metrics
from secret_file import read_secret
from segments import Rules
from settings import Settings

LIMIT = 0.25  # seconds that a request waits for an answer
PAUSE = 2.0  # seconds in which nothing is asked after a failure
LIBRARIES = ("numpy", "onnxruntime", "soundfile", "soxr")

log = logging.getLogger("speech")
stored = TypeAdapter(Analysis)


class Store(Protocol):
    """What is needed of a Redis client."""

    def get(self, name: str, /) -> Awaitable[object]:
        """Return the value of a key."""

    def set(self, name: str, value: bytes, /, *, ex: int) -> Awaitable[object]:
        """Set the value of a key, for so many seconds."""

    def aclose(self) -> Awaitable[None]:
        """Close the connections."""


class FilePassword(CredentialProvider):
    """The password in a file, read for each new connection, so that it may be replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_credentials(self) -> tuple[str]:
        """Return the password alone: the user is Redis' default."""
        return (read_secret(self._path) or "",)


class ResultCache:
    """Finds and keeps analyses. After a failure it asks nothing for `PAUSE` seconds; that is logged once."""

    def __init__(self, store: Store, metrics: Metrics, seconds: int) -> None:
        self._store = store
        self._lookups = metrics.lookups
        self._seconds = seconds
        self._paused_until = 0.0
        self._failed = False

    async def find(self, key: str) -> tuple[Analysis | None, str]:
        """Return what is kept, or None, and how that went: hit, miss or unavailable."""
        done, value = await self._ask(lambda: self._store.get(key))
        found = None
        if isinstance(value, bytes | str):
            try:
                found = stored.validate_json(value)
            except ValidationError:
                log.warning("the cache holds something else than a result at %s", key)
        outcome = "unavailable" if not done else "miss" if found is None else "hit"
        self._lookups.labels(outcome).inc()
        return found, outcome

    async def keep(self, key: str, analysis: Analysis) -> None:
        """Keep an analysis, if the cache can be reached."""
        value = stored.dump_json(analysis)
        await self._ask(lambda: self._store.set(key, value, ex=self._seconds))

    async def stop(self) -> None:
        """Close the connections."""
        with contextlib.suppress(Exception):  # there is nothing left to close
            async with asyncio.timeout(LIMIT):
                await self._store.aclose()

    async def _ask(self, ask: Callable[[], Awaitable[object]]) -> tuple[bool, object]:
        """Return whether there was an answer in time, and the answer."""
        if time.monotonic() < self._paused_until:
            return False, None
        try:
            async with asyncio.timeout(LIMIT):
                answer = await ask()
        except Exception as error:  # noqa: BLE001 - the client raises anything for what is no answer of Redis
            self._paused_until = time.monotonic() + PAUSE
            if not self._failed:
                log.warning(
                    "the cache cannot be used, so every file is analysed: %s", str(error) or "no answer in time"
                )
            self._failed = True
            return False, None
        if self._failed:
            log.info("the cache can be used again")
        self._failed = False
        return True, answer


def open_cache(settings: Settings, metrics: Metrics) -> ResultCache:
    """Return the cache at `settings.cache`; nothing is connected yet."""
    file = settings.cache_password_file
    client = Redis.from_url(
        settings.cache,
        credential_provider=None if file is None else FilePassword(file),
        socket_timeout=LIMIT,
        socket_connect_timeout=LIMIT,
        retry=Retry(NoBackoff(), 0),  # the next request is the next try
    )
    return ResultCache(client, metrics, settings.cache_seconds)


def describe_code() -> str:
    """Return a digest of this application's code and of the versions of what it computes with."""
    parts = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        parts.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for name in LIBRARIES:
        parts.update(f"{name}=={importlib.metadata.version(name)}\n".encode())
    return parts.hexdigest()


def make_key(content: str, model: str, code: str, rules: Rules) -> str:
    """Return the key of a result: `content`, `model` and `code` are SHA-256 in hexadecimal."""
    ruled = ":".join(str(value) for value in asdict(rules).values())
    return f"speech:{code[:16]}:{model}:{content}:{ruled}"
