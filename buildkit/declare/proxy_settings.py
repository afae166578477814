"""The proxy before a service that has versions or several replicas."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.declare.schema import IntegerSchema, KeySchema, TableSchema, TextSchema
from buildkit.declare.stage_schema import STAGE_NAME, STAGE_NAME_WORDS

STAGE = "proxy"
_URI = r"[A-Za-z0-9._~!&()*+,;=:@%/?-]"  # of RFC 3986, without what quotes or names a variable in a configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """HAProxy as ``stage`` runs it; ``probe`` is the path of its health check, without which it opens a connection.

    ``at_once`` are requests that a replica handles at a time (0: any number); the others queue for ``queue_seconds``.
    ``answer_seconds`` is the longest answer.
    """

    stage: str = STAGE
    probe: str = ""
    at_once: int = 0
    queue_seconds: int = 30
    answer_seconds: int = 300


PROXY = TableSchema(
    {
        "stage": KeySchema(TextSchema(STAGE_NAME, STAGE_NAME_WORDS), "stage that holds HAProxy (default: proxy)"),
        "probe": KeySchema(
            TextSchema(rf"/{_URI}*", "a path (`/readyz`)"), "path that a replica answers while it may have requests"
        ),
        "at-once": KeySchema(IntegerSchema(1, 100_000), "requests that a replica handles at a time; others queue"),
        "queue-seconds": KeySchema(IntegerSchema(1, 3600), "longest wait in the queue (default: 30), then 503"),
        "answer-seconds": KeySchema(IntegerSchema(1, 86400), "longest answer (default: 300)"),
    }
)
