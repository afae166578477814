"""Format numbers and sanitize foreign text for people."""

from __future__ import annotations

import re
import time

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links and other strings
    r"|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
# marks that change the text direction, invisible line ends, and lone surrogates
_DECEIVING = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def format_bytes(count: float) -> str:
    """Return ``0 B`` or ``1.5 MB``; units are decimal, as registries and disks count."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_progress(done: float, total: float | None) -> str:
    """Return ``26.3 MB of 111 MB``, or without a total that is not known, or was estimated and is passed."""
    return f"{format_bytes(done)} of {format_bytes(total)}" if total and total >= done else format_bytes(done)


def format_seconds(seconds: float) -> str:
    """Return ``0.04 s``, ``12.3 s`` or ``3 min 05 s``."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def sanitize(text: str) -> str:
    """Return foreign text that is safe for any terminal and file, and cannot deceive its reader.

    Terminal escapes and control characters are removed (tabs and line breaks stay); characters that reverse the text
    direction, or cannot be encoded as UTF-8, are shown as ``\\u202e``.
    """
    return _DECEIVING.sub(lambda match: match[0].encode("ascii", "backslashreplace").decode(), _ESCAPES.sub("", text))


def sanitize_line(text: str) -> str:
    """Sanitize text and put it on one line: a line break in a name must not end the line around it."""
    return " ".join(sanitize(text).split())


def format_date(at: float) -> str:
    """Return ``2026-11-22 18:40`` for seconds since the epoch, in the user's time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def format_age(seconds: float) -> str:
    """Return ``now``, ``40 s``, ``5 min``, ``3 h`` or ``12 d``; a time in the future is ``now``."""
    for limit, size, unit in ((1, 1, ""), (60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}" if unit else "now"
    return f"{int(seconds // 86400)} d"


def format_count(count: int, what: str) -> str:
    """Return ``1 file``, ``3 files`` or ``3 folders of files``."""
    noun, of, rest = what.partition(" of ")
    return f"{count} {what}" if count == 1 else f"{count} {noun}s{of}{rest}"
