"""Reproducible times and ids of documents: from their content, never from the clock or chance."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

_NAMESPACE = uuid.UUID("7a0d6f0c-5a39-5f0e-9c61-0f8f3c1c8b51")  # any fixed one would do


def document_uuid(content: str) -> uuid.UUID:
    """Return the id of a document with ``content`` (RFC 9562, version 5)."""
    return uuid.uuid5(_NAMESPACE, content)


def render_time(seconds: int) -> str:
    """Return a time by RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
