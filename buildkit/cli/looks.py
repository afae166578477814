"""Looks that are repeated: the option `--interval`, and the pace."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

_MOST = 3600.0  # seconds
_Look = TypeVar("_Look")


def add_interval_argument(parser: argparse.ArgumentParser, *, default: float, least: float) -> None:
    """Add ``--interval``, in seconds."""

    def parse(text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not least <= seconds <= _MOST:
            raise argparse.ArgumentTypeError(f"must be seconds from {least:g} to {_MOST:g}, not {text!r}")
        return seconds

    parser.add_argument(
        "--interval",
        type=parse,
        default=default,
        metavar="SECONDS",
        help="time between two looks (default: %(default)g)",
    )


def repeat_looks(look: Callable[[], _Look], interval: float) -> Iterator[_Look]:
    """Yield a look for each interval; one that came too late is not made up for."""
    due = time.monotonic()
    while True:
        yield look()
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
