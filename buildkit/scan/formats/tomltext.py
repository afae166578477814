"""TOML by Python's own parser; other text is ignored."""

from __future__ import annotations

import tomllib

from buildkit.scan.context import ScanContext
from buildkit.scan.formats import structures
from buildkit.scan.limits import LimitError


def check(context: ScanContext, text: str) -> None:
    """Check a text that may be TOML.

    Raises:
        LimitError: it is nested deeper than we follow.
    """
    if "=" not in text:
        return
    try:
        value = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError):
        return
    except RecursionError:
        raise LimitError("TOML nested deeper than we follow") from None
    structures.check(context, value)
