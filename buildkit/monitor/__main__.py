"""The serving half of the monitor, as the stage ``monitor`` runs it: figures come from a file, and nothing else.

``python -m buildkit.monitor`` serves; with ``--check`` it is the health check of that. Variables: ``MONITOR_FEED``, the
folder of the file (``/feed``), and ``MONITOR_PORT`` (9469).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from buildkit.monitor.exporter import PORT, MonitorServer
from buildkit.monitor.feed import FeedReader
from buildkit.monitor.routes import open_routes

_ANY = "0.0.0.0"  # noqa: S104 - in a container, whose network says who reaches it


def serve(folder: Path, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    state = FeedReader(folder).state
    with open_routes(state) as routes, MonitorServer((_ANY, port), state, routes) as server:
        thread = threading.Thread(target=server.serve_forever, name="http")
        thread.start()
        ended.wait()
        server.shutdown()
        thread.join()


def check(port: int) -> int:
    """Return 0 if the server at a port answers that it is well."""
    from http.client import HTTPConnection

    connection = HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/healthz")
        return int(connection.getresponse().status != 200)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    _port = int(os.environ.get("MONITOR_PORT") or PORT)
    if sys.argv[1:] == ["--check"]:
        sys.exit(check(_port))
    serve(Path(os.environ.get("MONITOR_FEED") or "/feed"), _port)
