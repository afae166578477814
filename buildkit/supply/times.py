"""What documents need that must not be the hour or chance: a time that is said, an id made of the content."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

_NAMESPACE = uuid.UUID("7a0d6f0c-5a39-5f0e-9c61-0f8f3c1c8b51")  # of documents by this tool; any fixed one would do


def document_uuid(content: str) -> uuid.UUID:
    """The id of a document that says ``content`` (RFC 9562, version 5)."""
    return uuid.uuid5(_NAMESPACE, content)


def render_time(seconds: int) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
