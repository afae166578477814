"""What the service refuses, as a value: one error type for every 4xx and 5xx that a client can be told about.

The body follows RFC 9457 (`application/problem+json`), with `code`, `message` and `hint` as its own members,
and `trace_id` where requests are traced.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NotRequired, TypedDict

MEDIA_TYPE = "application/problem+json"


class ProblemBody(TypedDict):
    """The JSON that a refused request is answered with."""

    type: str
    title: str
    status: int
    code: str
    message: str
    hint: str
    trace_id: NotRequired[str]


class Problem(Exception):
    """A request that is refused: HTTP status, a stable code, what is wrong and what to do about it."""

    def __init__(self, status: int, code: str, message: str, hint: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after = retry_after

    @property
    def body(self) -> ProblemBody:
        """The JSON body of the answer."""
        return {
            "type": "about:blank",
            "title": find_title(self.status),
            "status": self.status,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
        }

    @property
    def headers(self) -> dict[str, str]:
        """The extra headers of the answer: `Retry-After` (seconds) where waiting helps."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def find_title(status: int) -> str:
    """Return the reason phrase of an HTTP status, or an empty string for a private one (499)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


MOST_PARTS = 1_000  # chunks, blocks of metadata or tags before the samples: no encoder writes as many


def too_odd(what: str) -> Problem:
    """Refuse a file that would take seconds to look through, in which no request is cancelled."""
    return Problem(400, "not_audio", f"the body has too {what}", "encode the audio again")
