"""Warnings that are reported once."""

from __future__ import annotations

import functools
import logging


@functools.lru_cache(maxsize=None)
def say_once(text: str) -> None:
    """Warn, the first time that this text comes; without logging set up, Python prints it to standard error."""
    logging.getLogger("xoe_runtime").warning(text)
