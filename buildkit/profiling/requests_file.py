"""A file of requests, one a line: ``POST /v1/speech @clip.wav "Content-Type: audio/wav"``.

A line is a method, a path, and then, in any order, headers (``Name: value`` in quotes) and at most one body:
``@FILE``, relative to the file of requests, or ``=TEXT``. Words are split as a shell splits them; empty lines and those
that begin with ``#`` are skipped.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import DefinitionError, Problem

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MOST_BYTES, _MOST_REQUESTS, _MOST_BODY = 1 << 20, 10_000, 64 << 20
_TARGET = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRequest:
    """A request of HTTP/1.1; ``target`` is its path with the query."""

    method: str = "GET"
    target: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def load_requests(path: Path) -> tuple[ServiceRequest, ...]:
    """Read a file of requests. Raises DefinitionError, which lists every wrong line."""
    text = _read(path, _MOST_BYTES).decode("utf-8", "surrogateescape")
    found: list[ServiceRequest] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(_parse_line(line, path.parent))
        except (ValueError, DefinitionError) as error:
            problems.append(Problem(file=f"{path}:{number}", what=str(error)))
    if not found and not problems:
        problems.append(Problem(file=str(path), what="names no request", hint="write one a line: GET /healthz"))
    if len(found) > _MOST_REQUESTS:
        problems.append(Problem(file=str(path), what=f"has more than {_MOST_REQUESTS} requests"))
    if problems:
        raise DefinitionError.of(problems)
    return tuple(found)


def _parse_line(line: str, folder: Path) -> ServiceRequest:
    method, *rest = shlex.split(line)
    if method not in METHODS:
        raise ValueError(f"{method!r} is no method: a line is METHOD /PATH [@FILE] [HEADER]")
    if not rest or not _TARGET.fullmatch(rest[0]):
        raise ValueError(f"after {method} comes a path that begins with /, and has no spaces")
    headers: list[tuple[str, str]] = []
    bodies: list[bytes] = []
    for word in rest[1:]:
        if word.startswith("@"):
            bodies.append(_read(folder / word[1:], _MOST_BODY))
        elif word.startswith("="):
            bodies.append(word[1:].encode("utf-8", "surrogateescape"))
        elif header := _HEADER.fullmatch(word):
            headers.append((header[1], header[2]))
        else:
            raise ValueError(f'{word!r} is neither @FILE, nor =TEXT, nor a header such as "Accept: text/plain"')
    if len(bodies) > 1:
        raise ValueError("a request has one body")
    return ServiceRequest(method=method, target=rest[0], headers=tuple(headers), body=b"".join(bodies))


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise DefinitionError(f"{path}: {error.strerror}") from error
    if len(data) > most:
        raise DefinitionError(f"{path}: is larger than {most} bytes")
    return data
