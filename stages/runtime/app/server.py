"""uvicorn's server, which ends only when every request that has arrived is answered."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from connections import is_at_work, is_waited_for
from draining import Drain

PATIENCE = 10.0  # seconds for the headers of a request to come
DISCARD = 60.0  # seconds for the rest of a body whose request is answered, and for an answer to be read
STEP = 0.01  # seconds between looks
LINGER = 0.25  # seconds for a request over a connection that was made just before the end
FINISH = 1  # seconds for uvicorn to end what is left, which is nothing


class DrainingServer(uvicorn.Server):
    """Drains before it shuts down.

    For `notice` seconds after the signal, requests are answered though the service is not ready, so that balancers
    notice; not if nobody is connected. Then new ones are refused. Those that are still at work `limit` seconds after
    the signal are answered that they should be sent again.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, *, notice: float, limit: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._notice = min(notice, limit)
        self._limit = limit
        self._waited: dict[H11Protocol, tuple[str, float]] = {}  # for what, and since when

    async def on_tick(self, counter: int) -> bool:
        """Close connections that send no request or read no answer, which uvicorn waits for without end."""
        now, before, self._waited = asyncio.get_running_loop().time(), self._waited, {}
        for one in self.server_state.connections:
            if isinstance(one, H11Protocol) and is_waited_for(one):
                state, since = "reading" if is_at_work(one) else str(one.conn.their_state), now
                if one in before and before[one][0] == state:
                    since = before[one][1]
                self._waited[one] = state, since
                if now > since + (DISCARD if state in {"SEND_BODY", "reading"} else PATIENCE):
                    one.transport.abort()  # `close` would wait until what is written is read
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what has arrived, then stop listening and close what is idle."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._drain.leave()
        while self.server_state.connections and loop.time() < begun + self._notice and not self.force_exit:
            await asyncio.sleep(STEP)
        self._drain.refuse()
        while self._drain.count and loop.time() < begun + self._limit and not self.force_exit:
            await asyncio.sleep(STEP)
        self._drain.expire()
        await asyncio.sleep(0)  # what the kernel has accepted is accepted here, too
        for server in self.servers:
            server.close()
        begun = loop.time()
        while self.server_state.connections and loop.time() < begun + LINGER and not self.force_exit:
            await asyncio.sleep(STEP)
        await super().shutdown(sockets)
