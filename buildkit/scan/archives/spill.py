"""Inflated content as a source: in memory while it is small, else in an unnamed temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.limits import LimitError, ScanBudget
from buildkit.scan.source import BytesSource, FileSource, ScanSource

MEMORY = 8 * 2**20
FREE = 64 * 2**20  # bytes exempt from the ratio: the zeros of a small model compress that well


@dataclass(frozen=True, slots=True)
class InflatedContent:
    """Inflated content; ``why`` is what ended it early, empty if it is complete."""

    source: ScanSource
    why: str = ""


@contextmanager
def inflate(budget: ScanBudget, chunks: Iterable[bytes], packed: int) -> Iterator[InflatedContent]:
    """Keep the content of ``chunks``, inflated from ``packed`` bytes; if a limit ends it, the part so far is kept."""
    with ExitStack() as stack:
        memory, file, size, why = bytearray(), None, 0, ""
        try:
            for chunk in chunks:
                budget.inflate(len(chunk))
                check_ratio(budget, size + len(chunk), packed)
                if file is None and size + len(chunk) > MEMORY:
                    file = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile(buffering=0)))
                    file.write(memory)
                    memory.clear()
                if file is None:
                    memory += chunk
                else:
                    file.write(chunk)
                size += len(chunk)
        except LimitError as error:
            why = str(error)
        except OSError as error:
            why = f"there is no room to inflate it: {error.strerror}"
        yield InflatedContent(BytesSource(bytes(memory)) if file is None else FileSource(file, size), why)


def check_ratio(budget: ScanBudget, size: int, packed: int) -> None:
    """Raise LimitError for the ratio or size of a decompression bomb."""
    limits = budget.limits
    if size > FREE and size > limits.ratio * packed:
        raise LimitError(f"more than {limits.ratio} times as many bytes come out as went in")
    if size > limits.spill:
        raise LimitError(f"more than {limits.spill} bytes come out of one compressed part")
