"""How the service ends without losing a request: first it is not ready, then it refuses, then it answers what is left.

Every answer since the first step has `Connection: close`, so that clients come back over another connection, which a
balancer gives to another instance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from problems import Problem

CLOSE = (b"connection", b"close")
DISCARD_SECONDS = 5.0  # for the rest of a body that nobody wants
LAST_SECONDS = 0.25  # for the same when the time to stop is over


class Drain:
    """The requests that are being answered, and whether more are taken. For use from one event loop only."""

    def __init__(self) -> None:
        self.leaving = False
        self._refuses = self._expired = False
        self._limits: set[asyncio.Timeout] = set()

    @property
    def count(self) -> int:
        """How many requests are being answered."""
        return len(self._limits)

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Count a request for as long as the context lasts.

        Raises:
            Problem: (503) no more requests are taken, or this one took too long for a service that ends.
        """
        if self._refuses:
            raise stopping()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._limits.add(limit)
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise stopping() from error
        finally:
            self._limits.discard(limit)

    @asynccontextmanager
    async def discard(self) -> AsyncIterator[None]:
        """Count the context as a request, and end it after `DISCARD_SECONDS`, sooner if the time to stop is over."""
        limit = asyncio.timeout(LAST_SECONDS if self._expired else DISCARD_SECONDS)
        try:
            with suppress(TimeoutError):
                async with limit:
                    self._limits.add(limit)
                    yield
        finally:
            self._limits.discard(limit)

    def leave(self) -> None:
        """Be not ready from now on; requests are still answered."""
        self.leaving = True

    def refuse(self) -> None:
        """Take no more requests."""
        self.leaving = self._refuses = True

    def expire(self) -> None:
        """Take no more requests, and answer those that are left: that they should be sent again."""
        self.refuse()
        self._expired = True
        for limit in tuple(self._limits):
            limit.reschedule(0)


def stopping() -> Problem:
    """Refuse a request because the service ends."""
    return Problem(503, "stopping", "the service is stopping", "send it again", retry_after=1)


class Closing:
    """ASGI middleware: while the service leaves, each connection ends with its next answer.

    A body that is still on its way is read first: closing a socket with unread bytes resets the connection, and the
    client may lose the answer.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and end its connection if the service leaves."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        unread = not any(name == b"expect" for name, _ in scope["headers"])  # else nothing was sent

        async def watch() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def close(message: Message) -> None:
            if self._drain.leaving and message["type"] == "http.response.start":
                async with self._drain.discard():
                    while unread:
                        await watch()
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            await send(message)

        await self._app(scope, watch, close)
