"""Passwords, which come from files: an environment variable is shown by whoever inspects the container."""

from __future__ import annotations

from pathlib import Path


def read_secret(path: Path | None) -> str | None:
    """Return a file's text without the end of its line, read anew each time; None without a file.

    Raises OSError if it cannot be read.
    """
    return None if path is None else path.read_text("utf-8").rstrip("\r\n")
