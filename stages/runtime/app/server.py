"""uvicorn's server, which ends only when every request that has arrived is answered."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from draining import Drain

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
