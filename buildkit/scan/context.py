"""The state of one file's scan, and the recursion into nested content."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import field
from typing import Protocol

from buildkit.findings import Finding, Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.scan.limits import LimitError, ScanBudget
from buildkit.scan.result import UNKNOWN_CONTENT, Scan, ScanGap
from buildkit.scan.source import ScanSource

PICKLE = "pickle"  # the format that containers declare
PICKLE_FILE = re.compile(r"\.(?:pkl|pickle|pckl|dill|joblib|debug_pkl)(?:\.\w{1,5})?", re.IGNORECASE)
HEAD = 4096  # bytes that formats are recognised by


class Declared(enum.Enum):
    """What the container of some content states that it is, so that a loader takes it for that."""

    NOTHING = enum.auto()
    PICKLE_FILE = enum.auto()  # perhaps compressed, or an archive with a pickle
    PICKLE_STREAM = enum.auto()


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    ``recognise`` gets the first ``HEAD`` bytes and the whole content; ``scan`` reports to the context. ``is_archive``
    marks formats that only hold other content, ``is_guess`` those without a magic, for which other content may pass,
    and ``is_followed`` those whose scan follows every pickle in them, or leaves a gap.
    """

    name: str
    recognise: Callable[[bytes, ScanSource], bool]
    scan: Callable[[ScanContext, ScanSource], None]
    is_archive: bool = False
    is_guess: bool = False
    is_followed: bool = False


class Net(Protocol):
    """Looks for pickles in content, whatever its format; see ``pickle/net.py``."""

    def __call__(self, context: ScanContext, source: ScanSource, *, guessed: bool) -> None:
        """Report to the context; ``guessed``: the format of the content is not certain."""


@dataclass(slots=True)
class ScanContext:
    """Collect the findings of the file ``path``; ``member`` is the current position in it (``a.zip!b.pkl``).

    ``registry`` lists every format. Formats that hold other content call ``descend`` and need not know which formats
    exist. ``declared`` is what the container of the current content says of it; ``net`` looks for pickles in content of
    any format.
    """

    path: str
    budget: ScanBudget
    registry: tuple[Format, ...]
    allowed: frozenset[str] = frozenset()
    member: str = ""
    depth: int = 0
    declared: Declared = Declared.NOTHING
    net: Net | None = None
    findings: list[Finding] = field(default_factory=list)
    gaps: list[ScanGap] = field(default_factory=list)
    formats: dict[str, None] = field(default_factory=dict)

    def find(self, rule: Rule, what: str, *, offset: int | None = None, severity: Severity | None = None) -> None:
        """Record a finding at the current position.

        Raises:
            LimitError: there are more findings than are kept.
        """
        if len(self.findings) >= self.budget.limits.findings:
            raise LimitError(f"more than {self.budget.limits.findings} findings; the rest is not reported")
        position = {"path": self.path, "member": self.member}
        self.findings.append(Finding(rule=rule, what=what, offset=offset, override=severity, **position))

    def gap(self, why: str, *, offset: int | None = None) -> None:
        """Record that a part could not be scanned."""
        self.gaps.append(ScanGap(why, self.member, offset))

    def examine(self, source: ScanSource) -> None:
        """Scan ``source`` as every format that recognises it; unrecognised content is a gap.

        Content may be of several formats (a polyglot), and each of them scans it. What is declared to be a pickle is
        scanned as one, whatever it looks like.

        Raises:
            LimitError: the budget is used up.
        """
        head = source.read(0, HEAD)
        recognised = [candidate for candidate in self.registry if candidate.recognise(head, source)]
        if not recognised and source.size:
            self.gap(UNKNOWN_CONTENT)
        if self.declared is not Declared.NOTHING and not source.size:
            self.gap("its container says that it is a pickle, and it is empty")
        archive = any(one.is_archive for one in recognised)
        if self.declared is Declared.PICKLE_STREAM or (self.declared is Declared.PICKLE_FILE and not archive):
            pickles = [candidate for candidate in self.registry if candidate.name == PICKLE]
            recognised = list(dict.fromkeys((*pickles, *recognised)))
        before = len(self.gaps)
        for candidate in recognised:
            self.formats[candidate.name] = None
            candidate.scan(self, source)
        broken = any(gap.member == self.member for gap in self.gaps[before:])
        followed = not broken and any(one.is_followed for one in recognised)
        if self.net is not None and not followed and not (archive and self.declared is Declared.NOTHING):
            guessed = self.declared is not Declared.NOTHING or all(one.is_guess for one in recognised)
            self.net(self, source, guessed=guessed)

    def is_archive(self, source: ScanSource) -> bool:
        """Return whether ``source`` is an archive or a compressed stream."""
        head = source.read(0, HEAD)
        return any(candidate.is_archive and candidate.recognise(head, source) for candidate in self.registry)

    def descend(self, name: str, source: ScanSource, declared: Declared = Declared.NOTHING) -> None:
        """Scan nested content: the member ``name`` of an archive, or an embedded stream, perhaps ``declared`` a pickle.

        A file name declares it, too; such names only add to what is scanned.
        A limit that ends the scan of this member is a gap of the member; its siblings are still scanned.
        """
        outer = self.member, self.declared
        self.member = f"{self.member}!{name}" if self.member else name
        named = declared is Declared.NOTHING and PICKLE_FILE.search(name)
        self.declared = Declared.PICKLE_FILE if named else declared
        self.depth += 1
        try:
            if self.depth > self.budget.limits.depth:
                raise LimitError(f"nested deeper than {self.budget.limits.depth} levels")
            self.examine(source)
        except LimitError as error:
            self.gap(str(error))
        finally:
            self.member, self.declared = outer
            self.depth -= 1

    def result(self) -> Scan:
        """Return the result, without duplicates."""
        return Scan(tuple(dict.fromkeys(self.findings)), tuple(dict.fromkeys(self.gaps)), tuple(self.formats))
