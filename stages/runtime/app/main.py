"""The way in: `python -m main`, or `uvicorn main:app` where another server's options are wanted.

Exit codes: 0 stopped as asked, 1 the model or the port cannot be used, 2 bad settings.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

import uvicorn

from api import create_app
from connections import bound_connections
from server import FINISH, DrainingServer
from settings import Settings, SettingsError, parse_settings


def load_or_exit() -> Settings:
    """Return the settings of this process' environment, or say all that is wrong with them and exit with 2."""
    try:
        return parse_settings(os.environ)
    except SettingsError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)  # noqa: T201 - before logging is set up
        sys.exit(2)


def exit_quietly(_: int, __: FrameType | None) -> None:
    """Exit with 0: as process 1 a container would otherwise ignore SIGTERM until the server is up."""
    sys.exit(0)


settings = load_or_exit()
failed = False
server: DrainingServer | None = None


def stop_failed() -> None:
    """Stop the server because it can never become ready."""
    global failed
    failed = True
    if server is not None:
        server.should_exit = True


app = create_app(settings, stop_failed)


def run_server() -> int:
    """Serve until told to stop."""
    global server
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has shut down
        signal.signal(number, exit_quietly)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stdout
    )
    app.state.tracing.start_logging()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="asyncio",
        http=bound_connections(settings.connections),
        ws="none",
        log_config=None,
        log_level=settings.log_level,
        access_log=settings.access_log,
        server_header=False,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=FINISH,
    )
    notice, limit = settings.drain_seconds, settings.shutdown_timeout
    server = DrainingServer(config, app.state.drain, notice=notice, limit=limit)
    try:
        server.run()
    except SystemExit as stop:  # 0 from `exit_quietly`; otherwise the port cannot be used
        return 1 if stop.code else 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_server())
