"""What comes out of a decompressor, as a source: in memory while it is small, else in a file without a name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from buildkit.scan.limits import LimitError, ScanBudget
from buildkit.scan.source import BytesSource, FileSource, ScanSource

MEMORY = 8 * 2**20
FREE = 64 * 2**20  # bytes that may come out of next to nothing: zeros of a small model shrink that much


@dataclass(frozen=True, slots=True)
class InflatedContent:
    """Content that was inflated; ``why`` says what ended it early, empty where it is whole."""

    source: ScanSource
    why: str = ""


@contextmanager
def inflate(budget: ScanBudget, chunks: Iterable[bytes], packed: int) -> Iterator[InflatedContent]:
    """Keep what ``chunks`` of ``packed`` bytes give, as far as the budget lets; a limit ends it early, not in vain."""
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
    """Raises LimitError for what only a bomb does."""
    limits = budget.limits
    if size > FREE and size > limits.ratio * packed:
        raise LimitError(f"more than {limits.ratio} times as many bytes come out as went in")
    if size > limits.spill:
        raise LimitError(f"more than {limits.spill} bytes come out of one compressed part")
