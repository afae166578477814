"""Numbers and foreign text for people."""

from __future__ import annotations

import re
import time

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links and other strings
    r"|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
# marks that turn the direction of what follows, ends of lines that are not seen as such, and what is no character
_DECEIVING = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def format_bytes(count: float) -> str:
    """``0 B``, ``1.5 MB``; decimal units, as registries and disks count."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_seconds(seconds: float) -> str:
    """``0.04 s``, ``12.3 s``, ``3 min 05 s``."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def clean(text: str) -> str:
    """Foreign text that any terminal and any file can take, and that looks like what it is.

    Terminal escapes and control characters are left out (tabs and line breaks stay); what would deceive a reader, or
    cannot be written as UTF-8, is shown as ``\\u202e``.
    """
    return _DECEIVING.sub(lambda found: found[0].encode("ascii", "backslashreplace").decode(), _ESCAPES.sub("", text))


def flat(text: str) -> str:
    """The same in one line: a name with a line break in it must not end the line that it stands in."""
    return " ".join(clean(text).split())


def format_date(at: float) -> str:
    """``2026-11-22 18:40``, in the user's time zone, of seconds since the epoch."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def format_age(seconds: float) -> str:
    """``now``, ``40 s``, ``5 min``, ``3 h``, ``12 d``; times in the future are now."""
    for limit, size, unit in ((1, 1, ""), (60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}" if unit else "now"
    return f"{int(seconds // 86400)} d"


def format_count(count: int, what: str) -> str:
    """``1 file``, ``3 files``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
