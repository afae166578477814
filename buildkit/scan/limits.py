"""The limits of the scan of one file. If a limit ends it, the verdict is *not fully scanned*, never clean."""

from __future__ import annotations

from dataclasses import field

from buildkit.lazy_dataclass import dataclass


class LimitError(Exception):
    """A limit ended the scan of a file or of a part; the message names the limit and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """Bytes, counts and depths. A file's own size is not limited, because files are read in place."""

    inflated: int = 64 * 2**30
    spill: int = 8 * 2**30
    ratio: int = 1100
    members: int = 200_000
    depth: int = 8
    opcodes: int = 50_000_000
    memo: int = 3_000_000
    header: int = 256 * 2**20
    json: int = 64 * 2**20
    fields: int = 20_000_000
    findings: int = 10_000
    templates: int = 20_000


@dataclass(slots=True)
class ScanBudget:
    """The use of ``limits`` by one file, with all that is nested in it."""

    limits: ScanLimits
    inflated: int = field(default=0)
    members: int = field(default=0)
    opcodes: int = field(default=0)
    templates: int = field(default=0)

    def inflate(self, count: int) -> None:
        """Count ``count`` inflated bytes.

        Raises:
            LimitError: more than ``limits.inflated`` for this file.
        """
        self.inflated += count
        if self.inflated > self.limits.inflated:
            raise LimitError(f"more than {self.limits.inflated} bytes come out of its compressed parts")

    def member(self) -> None:
        """Count one member of an archive.

        Raises:
            LimitError: more than ``limits.members`` in this file.
        """
        self.members += 1
        if self.members > self.limits.members:
            raise LimitError(f"more than {self.limits.members} members are in its archives")

    def operate(self, count: int) -> None:
        """Count ``count`` opcodes of a pickle.

        Raises:
            LimitError: more than ``limits.opcodes`` in this file.
        """
        self.opcodes += count
        if self.opcodes > self.limits.opcodes:
            raise LimitError(f"more than {self.limits.opcodes} opcodes are in its pickles")

    def template(self) -> None:
        """Count a text that is parsed as a template.

        Raises:
            LimitError: more than ``limits.templates`` in this file.
        """
        self.templates += 1
        if self.templates > self.limits.templates:
            raise LimitError(f"more than {self.limits.templates} texts are in it that may be templates")
