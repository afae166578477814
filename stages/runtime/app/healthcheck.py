"""The image's HEALTHCHECK: exit 0 when the service in this container is ready, 1 when it is not.

The hardened image has neither shell nor curl, and this runs every few seconds: a socket is all it loads.
"""

import os
import socket
import sys

TIMEOUT = 3.0


def is_ready(host: str, port: int) -> bool:
    """Return whether `GET /readyz` answers 200."""
    request = b"GET /readyz HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
            connection.sendall(request)
            status = connection.makefile("rb").readline(64).split()
    except OSError:
        return False
    return len(status) > 1 and status[1] == b"200"


def main() -> int:
    """Ask the service where `SPEECH_HOST` and `SPEECH_PORT` say that it listens."""
    host = os.environ.get("SPEECH_HOST", "")
    loopback = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what "everywhere" means from inside
    return 0 if is_ready(loopback.get(host, host), int(os.environ.get("SPEECH_PORT", "8000"))) else 1


if __name__ == "__main__":
    sys.exit(main())
