"""Taking a request's body: into memory, up to a limit, within a time."""

from __future__ import annotations

import asyncio
import io
from email.message import Message

from starlette.requests import ClientDisconnect, Request

from formats import MEDIA_TYPES
from problems import Problem

UNTYPED = "application/octet-stream"
HOW = "send the file itself as the body, e.g. curl --data-binary @speech.wav -H 'Content-Type: audio/wav'"


def check_headers(request: Request, max_bytes: int) -> int:
    """Refuse what the headers give away, before a byte of the body is read; return the most bytes that it may have.

    Raises:
        Problem: (415) another type than audio, or a compressed body; (413) too large; (400) a bad length.
    """
    header = Message()
    header["Content-Type"] = request.headers.get("content-type") or UNTYPED
    if header.get_content_type() not in MEDIA_TYPES and header.get_content_type() != UNTYPED:
        raise Problem(415, "unsupported_type", f"the body is declared as {header.get_content_type()}", HOW)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Problem(415, "unsupported_encoding", f"the body is encoded as {encoding}", "send it as it is")
    length = request.headers.get("content-length", str(max_bytes))
    if not (length.isascii() and length.isdigit()):
        raise Problem(400, "bad_length", f"Content-Length is {length!r}", "send a number of bytes")
    if int(length) > max_bytes:
        raise too_large(max_bytes)
    return int(length)


async def read_body(request: Request, max_bytes: int, seconds: float) -> io.BytesIO:
    """Return the body, whatever its headers said about its length.

    Raises:
        Problem: (413) more than `max_bytes`; (408) not there within `seconds`; (400) broken off.
    """
    body = io.BytesIO()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                if body.tell() + len(chunk) > max_bytes:
                    raise too_large(max_bytes)
                body.write(chunk)
    except TimeoutError as error:
        message = f"the body did not arrive within {seconds:g} s"
        raise Problem(408, "upload_timeout", message, "send it over a faster connection, or a smaller file") from error
    except ClientDisconnect as error:
        raise Problem(400, "broken_upload", "the connection ended within the body", "send it again") from error
    return body


def too_large(max_bytes: int) -> Problem:
    """Refuse a body of too many bytes."""
    return Problem(
        413,
        "too_large",
        f"the body is larger than {max_bytes} bytes",
        "send a compressed format (FLAC, OGG or MP3), or shorter files",
    )
