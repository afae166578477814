"""What single servers need to be told: to leave reloading and forks to us, to end between requests, how to accept."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

from .adoption import AdoptedSockets
from .modules import when_imported

QUIET_MS = 300
"""A connection over which nothing came for so long is idle: its client does not send the next request just now."""

LINGER = 2.0
"""Seconds in which kept-alive connections that are in use learn to close before idle ones are closed."""

_LAST_RECEIVED = 52
"""Offset of ``tcpi_last_data_recv`` (milliseconds, 32 bits) in ``struct tcp_info`` of linux/tcp.h."""


def adapt_servers(adoption: AdoptedSockets) -> None:
    """Adapt each server when it is imported."""
    when_imported("gunicorn.arbiter", adapt_gunicorn)
    when_imported("gunicorn.workers.base", adapt_gunicorn_worker)
    when_imported("uvicorn.config", adapt_uvicorn_settings)
    when_imported("uvicorn.server", adapt_uvicorn)
    when_imported("werkzeug.serving", adapt_werkzeug)
    when_imported("uvloop", lambda uvloop: adapt_uvloop(uvloop, adoption))


def adapt_gunicorn(module: Any) -> None:
    """Serve in the arbiter's process. Its fork would copy the page tables of what is kept once more, for each save.

    What an arbiter does for its workers is ours here, and nobody ends one that a debugger holds for half a minute.
    """
    spawn = module.Arbiter.spawn_worker

    def serve(self: Any) -> Any:
        fork = os.fork

        def stay() -> int:
            os.fork = fork
            return 0  # as in the child

        self.cfg.set("max_requests", 0)
        os.fork = stay
        try:
            return spawn(self)
        finally:
            os.fork = fork
            if self.pidfile is not None:
                self.pidfile.unlink()
            self.cfg.on_exit(self)

    module.Arbiter.spawn_worker = serve


def adapt_gunicorn_worker(module: Any) -> None:
    """Let a worker outlive its parent, which is replaced when another is complete."""
    module.Worker.ppid = property(lambda _self: os.getppid(), lambda _self, _number: None)


def adapt_uvicorn_settings(module: Any) -> None:
    """Start no second process: that is what its own reloading and several workers do."""
    original = module.Config.__init__

    def start(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self.reload, self.workers = False, 1

    module.Config.__init__ = start


def adapt_uvicorn(module: Any) -> None:
    """End connections so that no client is left with a request that nobody answers."""
    shutdown, handle_exit = module.Server.shutdown, module.Server.handle_exit

    def ask_to_close(self: Any, *words: Any) -> None:
        """Answer what still comes with ``Connection: close``, from the signal on."""
        self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        handle_exit(self, *words)

    async def end(self: Any, sockets: Any = None) -> None:
        until = time.monotonic() + LINGER
        while time.monotonic() < until and any(map(_is_between_requests, list(self.server_state.connections))):
            for connection in list(self.server_state.connections):
                if _is_between_requests(connection) and _is_quiet(connection.transport):
                    connection.transport.close()
            await asyncio.sleep(0.005)
        await shutdown(self, sockets=sockets)

    module.Server.handle_exit, module.Server.shutdown = ask_to_close, end


def _is_between_requests(connection: Any) -> bool:
    """Whether a connection waits for its client; a WebSocket does not."""
    if not hasattr(connection, "cycle") or connection.transport.is_closing():
        return False
    return bool(connection.cycle is None or connection.cycle.response_complete)


def _is_quiet(transport: Any) -> bool:
    sock = transport.get_extra_info("socket")
    try:
        if any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")):
            return False  # a request waits to be read
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED + 4)
    except (OSError, AttributeError):
        return True
    (milliseconds,) = struct.unpack_from("I", state, _LAST_RECEIVED)
    return bool(milliseconds >= QUIET_MS)


def adapt_werkzeug(module: Any) -> None:
    """Keep its development server from starting a second process."""
    original = module.run_simple

    def run_simple(*arguments: Any, **named: Any) -> Any:
        return original(*arguments, **{**named, "use_reloader": False})

    module.run_simple = run_simple


def adapt_uvloop(module: Any, adoption: AdoptedSockets) -> None:
    """Accept connections of adopted sockets in Python; uvloop's own call is of the kernel."""
    original = module.Loop.create_server

    async def create_server(
        self: Any, factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **named: Any
    ) -> Any:
        socks = [sock] if sock is not None else await _bind_all(self, host, port) if port else []
        if not socks or any(adoption.find(one) is None for one in socks):
            return await original(self, factory, host, port, sock=sock, **named)
        tls = {name: named[name] for name in ("ssl", "ssl_handshake_timeout", "ssl_shutdown_timeout") if name in named}
        return _AdoptedServer(self, socks, lambda one: self.connect_accepted_socket(factory, one, **tls))

    module.Loop.create_server = create_server


async def _bind_all(loop: Any, host: Any, port: int) -> list[socket.socket]:
    found = []
    for one in host if isinstance(host, (list, tuple)) else [host or None]:
        infos = await loop.getaddrinfo(one, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            found.append(sock)
    return found


class _AdoptedServer:
    """As much of ``asyncio.Server`` as servers use."""

    def __init__(self, loop: Any, sockets: list[socket.socket], connect: Callable[[socket.socket], Any]) -> None:
        self._loop, self._connect = loop, connect
        self.sockets = tuple(sockets)
        self._tasks: set[Any] = set()
        for sock in sockets:
            sock.setblocking(False)
            loop.add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        try:
            made, _ = sock.accept()
        except (BlockingIOError, InterruptedError):
            return
        made.setblocking(False)
        task = self._loop.create_task(self._connect(made))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_serving(self) -> bool:
        return bool(self.sockets)

    def close(self) -> None:
        for sock in self.sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self.sockets = ()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
