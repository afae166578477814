"""Tell a pickle by running it dry: protocols 0 and 1 have no magic, and text may begin with bytes that are opcodes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildkit.scan.limits import LimitError, ScanLimits
from buildkit.scan.pickle.lists import Standing, classify
from buildkit.scan.pickle.machine import BrokenPickleError, PickleMachine, StreamEnd
from buildkit.scan.pickle.opcodes import HANDLERS, run_pickle
from buildkit.scan.pickle.python2_names import python3_name
from buildkit.scan.pickle.values import UNKNOWN, ByteString, Global, LongText, Value
from buildkit.scan.source import RangeSource, ScanSource

WINDOW = 4096  # bytes of numbers that are tried
TRIED = 5000  # opcodes of a stream that says its protocol
MOST = 2_000_000  # opcodes that are tried; what goes on so long is a pickle
FEW = 8  # opcodes behind which a stream that breaks was one
FOLLOWERS = 64  # streams behind each other that are tried; where all of them are whole, they are pickles
PROTO = 0x80
HIGHEST = 5
PLAIN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
BEGIN = frozenset(key[0] for key in HANDLERS) - frozenset(b"012pqrghjasetublod\x81\x85\x86\x87\x90\x91\x92\x93\x94R")


class EvidenceFoundError(Exception):
    """Enough was seen."""


def has_plausible_name(one: Global) -> bool:
    """Whether its names are such as Python's modules have."""
    return bool(PLAIN.fullmatch(one.module)) and bool(PLAIN.fullmatch(one.name))


@dataclass(slots=True)
class DryRunWatcher:
    """The watcher of a dry run; raises EvidenceFoundError at what no text does by accident."""

    strong: bool
    names: bool = False  # that numbers of an array are taken for a computed name happens; for a known one it does not

    def imported(self, one: Global) -> None:
        """As Watcher."""
        if has_plausible_name(one) and (
            self.strong or classify(*python3_name(one.module, one.name)) is not Standing.UNKNOWN
        ):
            raise EvidenceFoundError

    def unresolved(self, module: Value, name: Value, offset: int) -> None:  # noqa: ARG002
        """As Watcher: in text, nothing was pushed that could be a name."""
        if self.strong or (not self.names and module is not UNKNOWN and name is not UNKNOWN):
            raise EvidenceFoundError

    def extension(self, code: int, offset: int) -> None:  # noqa: ARG002
        """As Watcher."""
        if self.strong:
            raise EvidenceFoundError

    def called(self, callee: Value, args: Value, offset: int) -> Value:  # noqa: ARG002
        """As Watcher."""
        if isinstance(callee, Global) and has_plausible_name(callee):
            raise EvidenceFoundError
        return UNKNOWN

    def built(self, machine: PickleMachine, target: Value, state: Value, offset: int) -> None:
        """As Watcher."""

    def filled(self, target: Value, values: list[Value], offset: int) -> None:
        """As Watcher."""

    def persistent(self, key: Value, offset: int) -> Value:  # noqa: ARG002
        """As Watcher: the line of an id is text."""
        if not self.strong and isinstance(key, str) and not key.isprintable():
            raise BrokenPickleError("an id is no text")
        return UNKNOWN

    def constant(self, value: ByteString | LongText | str, offset: int) -> None:
        """As Watcher."""


def dry_run(source: ScanSource, start: int, trial: DryRunWatcher, most: int) -> StreamEnd | None:
    """Follow the stream at ``start``; None where something convincing was seen, or it went on for long."""
    used = [0]

    def operate(count: int) -> None:
        used[0] += count
        if used[0] > most:
            raise EvidenceFoundError

    try:
        return run_pickle(source, start, trial, operate, ScanLimits(memo=MOST))
    except (EvidenceFoundError, LimitError):
        return None


def is_pickle(
    source: ScanSource, start: int = 0, *, nested: bool = False, numbers: bool = False, more: int = FOLLOWERS
) -> bool:
    """Whether a pickle begins at ``start``.

    ``nested``: of constants, only those that do something, or that say their protocol and are whole.
    ``numbers``: what an array holds, unless it was made to be taken for opcodes, those before it among them.
    """
    head = source.read(start, 2)
    if not head or (head[0] not in BEGIN and not numbers):
        return False
    strong = head[0] == PROTO
    if strong and (len(head) < 2 or head[1] > HIGHEST):
        return False
    ending = dry_run(source, start, DryRunWatcher(strong, names=numbers), TRIED if strong else MOST)
    if ending is None:
        return True
    if strong and not nested:
        return (not ending.why and ending.sound) or (ending.torn and ending.opcodes > 1) or ending.opcodes >= FEW
    if strong:
        return not ending.why and ending.sound and ending.opcodes > 2
    if nested or ending.why or not ending.sound:
        return False
    rest = source.size - ending.offset
    return rest <= 0 or more == 0 or is_pickle(RangeSource(source, ending.offset, rest), more=more - 1)
