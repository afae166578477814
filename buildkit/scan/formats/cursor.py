"""Read numbers and strings from a source in small steps; missing bytes raise `MalformedContentError`."""

from __future__ import annotations

from collections.abc import Callable

from buildkit.scan.context import ScanContext
from buildkit.scan.limits import LimitError
from buildkit.scan.source import ScanSource

PAGE = 128 * 2**10


class MalformedContentError(Exception):
    """The content violates its format; ``offset`` counts bytes from the beginning of the source."""

    def __init__(self, why: str, offset: int | None = None) -> None:
        super().__init__(why)
        self.offset = offset


class PagedSource:
    """Small reads at the cost of few large ones; holds at most a page, or as much as was requested."""

    __slots__ = ("_page", "_start", "size", "source")

    def __init__(self, source: ScanSource) -> None:
        self.source = source
        self.size = source.size
        self._start = 0
        self._page = b""

    def peek(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``; fewer at the end."""
        at = offset - self._start
        if at >= 0 and at + count <= len(self._page):
            return self._page[at : at + count]
        if count > PAGE // 2:
            return self.source.read(offset, count)
        self._start, self._page = offset, self.source.read(offset, PAGE)
        return self._page[:count]

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly ``count`` bytes from ``offset``.

        Raises:
            MalformedContentError: the source ends before.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise MalformedContentError(
                f"{count} bytes are declared at {offset} of {self.size}", min(max(offset, 0), self.size)
            )
        content = self.peek(offset, count)
        if len(content) != count:
            raise MalformedContentError("the content shrank while it was read", offset)
        return content

    def number(self, offset: int, width: int, *, big: bool = False) -> int:
        """Return an unsigned integer of ``width`` bytes.

        Raises:
            MalformedContentError: the source ends before.
        """
        return int.from_bytes(self.read(offset, width), "big" if big else "little")


class Cursor:
    """A position in a paged source that advances with every read."""

    __slots__ = ("at", "big", "window")

    def __init__(self, window: PagedSource, at: int = 0, *, big: bool = False) -> None:
        self.window = window
        self.at = at
        self.big = big

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            MalformedContentError: there are fewer.
        """
        content = self.window.read(self.at, count)
        self.at += count
        return content

    def number(self, width: int) -> int:
        """Return the next unsigned integer of ``width`` bytes.

        Raises:
            MalformedContentError: there are fewer bytes.
        """
        return int.from_bytes(self.take(width), "big" if self.big else "little")

    def skip(self, count: int) -> None:
        """Advance without reading.

        Raises:
            MalformedContentError: that leaves the source.
        """
        if count < 0 or self.at + count > self.window.size:
            raise MalformedContentError(f"{count} bytes are declared at {self.at} of {self.window.size}", self.at)
        self.at += count


def report_errors_as_gaps(
    name: str, scan: Callable[[ScanContext, ScanSource], None]
) -> Callable[[ScanContext, ScanSource], None]:
    """Wrap ``scan`` so that malformed content and limits become gaps, and other formats still get their turn."""

    def run(context: ScanContext, source: ScanSource) -> None:
        try:
            scan(context, source)
        except MalformedContentError as error:
            context.gap(f"malformed {name}: {error}", offset=error.offset)
        except LimitError as error:
            context.gap(str(error))

    return run


def quote(text: str | bytes, most: int = 80) -> str:
    """Format foreign text for a message: quoted, escaped, short."""
    if isinstance(text, bytes):
        text = text[: most * 4].decode(errors="backslashreplace")
    return ascii(text) if len(text) <= most else ascii(text[:most]) + "…"


def quote_value(value: object) -> str:
    """Format a foreign value for a message; of lists and objects only the kind."""
    plain = value is None or isinstance(value, str | int | float)
    return quote(str(value)) if plain else "an object" if isinstance(value, dict) else "a list"
