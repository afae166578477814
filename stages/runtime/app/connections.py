"""How many connections there are at once: where one too many comes, the one that waits for its client longest goes.

So clients that send or read slowly, however many, keep nobody out, and no request at work is lost. A probe needs no
place of its own: the newest connection is never the one that goes, unless each other one has a request at work.
"""

from __future__ import annotations

import asyncio
import os

from uvicorn.protocols.http.h11_impl import H11Protocol

RESERVED = 64  # files that are no connections of clients


def bound_connections(most: int) -> type[H11Protocol]:
    """Return uvicorn's protocol for at most `most` connections, and no more than this process may have files."""
    files = os.sysconf("SC_OPEN_MAX")  # -1: any number
    room = most if files < 0 else max(1, min(most, files - RESERVED))

    class BoundedProtocol(H11Protocol):
        since = 0.0  # when it was made, or its last request was answered

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
            super().connection_made(transport)
            self.since = self.loop.time()
            self.loop.call_soon(self.loop.call_soon, self.make_room)  # first, what others have sent by now is read

        def on_response_complete(self) -> None:
            self.since = self.loop.time()
            super().on_response_complete()

        def make_room(self) -> None:
            if len(self.connections) > room:
                others = (one for one in self.connections if isinstance(one, BoundedProtocol) and self.may_replace(one))
                victim = min(others, key=BoundedProtocol.order, default=self)
                self.connections.discard(victim)  # not chosen again: it is lost in the loop's next round only
                victim.transport.abort()

        def may_replace(self, one: H11Protocol) -> bool:
            return one is not self and (not is_at_work(one) or one.flow.write_paused)

        def order(self) -> tuple[bool, float]:
            return self.timeout_keep_alive_task is not None, self.since  # those that rest are the last to go

    return BoundedProtocol


def is_at_work(connection: H11Protocol) -> bool:
    """Return whether a connection has a request that is not answered yet."""
    return connection.cycle is not None and not connection.cycle.response_complete


def is_waited_for(connection: H11Protocol) -> bool:
    """Return whether the client must send or read, and there is no time after which uvicorn closes the connection."""
    if is_at_work(connection):
        return connection.flow.write_paused
    return connection.timeout_keep_alive_task is None
