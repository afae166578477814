"""Recognise a pickle by a dry run: protocols 0 and 1 have no magic, and text may begin with bytes that are opcodes."""

from __future__ import annotations

import re

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.limits import LimitError, ScanLimits
from buildkit.scan.pickle.lists import Standing, classify
from buildkit.scan.pickle.machine import BrokenPickleError, PickleMachine, StreamEnd
from buildkit.scan.pickle.opcodes import HANDLERS, run_pickle
from buildkit.scan.pickle.python2_names import python3_name
from buildkit.scan.pickle.values import UNKNOWN, ByteString, Global, LongText, Value
from buildkit.scan.source import RangeSource, ScanSource

TRIED = 5000  # opcodes to try of a stream that states its protocol, or of numbers
MOST = 2_000_000  # opcodes to try; a longer stream is a pickle
FEW = 8  # a stream that breaks after so many opcodes was a pickle
FOLLOWERS = 64  # consecutive streams to try; if all are whole, they are pickles
PROTO = 0x80
HIGHEST = 5
FUTURE = 15  # protocols that Python does not have yet
PLAIN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
BEGIN = frozenset(key[0] for key in HANDLERS) - frozenset(b"012pqrghjasetublod\x81\x85\x86\x87\x90\x91\x92\x93\x94R")


class EvidenceFoundError(Exception):
    """The dry run saw enough."""


def has_plausible_name(symbol: Global) -> bool:
    """Return whether module and name look like Python's."""
    return bool(PLAIN.fullmatch(symbol.module)) and bool(PLAIN.fullmatch(symbol.name))


@dataclass(slots=True)
class DryRunWatcher:
    """The watcher of a dry run; raises EvidenceFoundError at what no text does by accident."""

    strong: bool
    names: bool = False  # an array's numbers may look like a computed name by accident, but not like a known one
    acted: bool = False  # a global was called

    def ambiguous(self, why: str, offset: int) -> None:
        """Implement ``Watcher``."""

    def gathered(self, symbol: Global, offset: int) -> None:
        """Implement ``Watcher``."""

    def hashed(self, keys: list[Value], offset: int) -> None:
        """Implement ``Watcher``."""

    def imported(self, symbol: Global) -> None:
        """Implement ``Watcher``."""
        if has_plausible_name(symbol) and (
            self.strong or classify(*python3_name(symbol.module, symbol.name)) is not Standing.UNKNOWN
        ):
            raise EvidenceFoundError

    def unresolved(self, module: Value, name: Value, offset: int) -> None:  # noqa: ARG002
        """Implement ``Watcher``: text pushes nothing that could be a name."""
        if self.strong or (not self.names and module is not UNKNOWN and name is not UNKNOWN):
            raise EvidenceFoundError

    def extension(self, code: int, offset: int) -> None:  # noqa: ARG002
        """Implement ``Watcher``."""
        if self.strong:
            raise EvidenceFoundError

    def called(self, callee: Value, args: Value, offset: int) -> Value:  # noqa: ARG002
        """Implement ``Watcher``."""
        if isinstance(callee, Global):
            self.acted = True
            if has_plausible_name(callee):
                raise EvidenceFoundError
        return UNKNOWN

    def built(self, machine: PickleMachine, target: Value, state: Value, offset: int) -> None:
        """Implement ``Watcher``."""

    def filled(self, target: Value, values: list[Value], offset: int) -> None:
        """Implement ``Watcher``."""

    def persistent(self, key: Value, offset: int) -> Value:  # noqa: ARG002
        """Implement ``Watcher``: the line of an id is text."""
        if not self.strong and isinstance(key, str) and not key.isprintable():
            raise BrokenPickleError("an id is not text")
        return UNKNOWN

    def constant(self, value: ByteString | LongText | str, offset: int) -> None:
        """Implement ``Watcher``."""


def dry_run(source: ScanSource, start: int, trial: DryRunWatcher, most: int) -> StreamEnd | None:
    """Follow the stream at ``start``; None if there was convincing evidence, or the stream is very long."""
    used = [0]

    def operate(count: int) -> None:
        used[0] += count
        if used[0] > most:
            raise LimitError

    try:
        return run_pickle(source, start, trial, operate, ScanLimits(memo=MOST))
    except EvidenceFoundError:
        return None
    except LimitError:  # numbers may be opcodes for long, and do nothing
        return StreamEnd(start, most, UNKNOWN, "it is long") if trial.names else None


def is_pickle(
    source: ScanSource, start: int = 0, *, nested: bool = False, numbers: bool = False, more: int = FOLLOWERS
) -> bool:
    """Return whether a pickle begins at ``start``.

    ``nested``: content of a constant, which only counts if it acts, or is whole and states its protocol.
    ``numbers``: content of an array, which only counts if it was made to be taken for opcodes.
    ``more``: how many of the streams that follow one of protocol 0 or 1 must be pickles, too.
    """
    head = source.read(start, 2)
    if not head or (head[0] not in BEGIN and not numbers):
        return False
    strong = head[0] == PROTO
    if strong and (len(head) < 2 or head[1] > FUTURE):
        return False
    known = strong and head[1] <= HIGHEST
    trial = DryRunWatcher(strong, names=numbers)
    ending = dry_run(source, start, trial, TRIED if strong or numbers else MOST)
    if ending is None:
        return True
    if known and not nested:
        return (not ending.why and ending.sound) or (ending.torn and ending.opcodes > 1) or ending.opcodes >= FEW
    if strong:
        return not ending.why and ending.sound and ending.opcodes > 2
    if nested or trial.acted or ending.why or not ending.sound:
        return trial.acted and not ending.why and ending.sound
    rest = source.size - ending.offset
    return rest <= 0 or more == 0 or is_pickle(RangeSource(source, ending.offset, rest), more=more - 1)
