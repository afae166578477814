"""HAProxy in a container: commands for its socket, by the socat of its image."""

from __future__ import annotations

from buildkit.errors import BuildError
from buildkit.rollout.proxied import SOCKET
from buildkit.tools.process import Command, run

_SECONDS = "10"  # that socat waits for the rest of an answer
_LARGEST_PAGE = 4 << 20  # bytes that are read of a page
_ANY = tuple(range(256))
_UNKNOWN = ("Unknown command", "No such", "Permission denied", "missing or invalid", "Invalid", "unknown")


def ask_proxy(container: str, command: str) -> str:
    """Return the answer to a command, or to several that `;` separates.

    Raises BuildError if the proxy does not run, or refuses one.
    """
    socat = ("socat", "-t", _SECONDS, "-", f"UNIX-CONNECT:{SOCKET}")
    argv = ("podman", "exec", "--interactive", "--", container, *socat)
    finished = run(Command(argv=argv, stdin=f"{command}\n".encode(), accept=_ANY))
    answer = finished.stdout.decode("utf-8", "replace")
    if finished.code:
        message = finished.stderr.decode("utf-8", "replace").strip()
        raise BuildError(f"the proxy {container} does not answer", hint="nox -s up starts it", output=message)
    check_answer(command, answer)
    return answer


def check_answer(command: str, answer: str) -> None:
    """Raise BuildError if HAProxy has refused a command."""
    if (refused := answer.strip()).startswith(_UNKNOWN):
        raise BuildError(f"the proxy refuses `{command}`: {refused.splitlines()[0]}")


def fetch_page(container: str, address: str, path: str) -> str:
    """Return what a replica at ``ADDRESS:PORT`` answers to a GET, asked from the proxy's network; 4 MiB at most.

    Raises BuildError if it does not answer.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    # a server may take the end of a request for the end of its client
    server = f"TCP:{address},connect-timeout={_SECONDS},readbytes={_LARGEST_PAGE}"
    socat = ("socat", "-T", _SECONDS, "-t", "0.1", "-,ignoreeof", server)
    argv = ("podman", "exec", "--interactive", "--", container, *socat)
    finished = run(Command(argv=argv, stdin=request.encode(), accept=_ANY))
    head, _, body = finished.stdout.decode("utf-8", "replace").partition("\r\n\r\n")
    if finished.code or " 200" not in head.partition("\r\n")[0]:
        raise BuildError(f"http://{address}{path} does not answer 200", output=head.partition("\r\n")[0])
    return body


def reload_proxy(container: str) -> None:
    """Make HAProxy read its configuration again; connections stay. Raises ToolError."""
    run(Command(argv=("podman", "kill", "--signal", "USR2", "--", container), what=f"reloading {container}"))
