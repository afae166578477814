"""The reason why this client leaves a request to skopeo."""

from __future__ import annotations


class LeftToSkopeo(Exception):
    """A setting or a registry asks for what this client does not do; the message says what, without secrets."""
