"""A finding about the host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DiagnosisStatus(StrEnum):
    """The severity of a finding: a note costs nothing, a warning costs time or a feature, an error stops builds."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A finding: ``what`` was found, its ``cost`` for the user, and the command to ``mend`` it (may be empty)."""

    id: str
    status: DiagnosisStatus
    what: str
    cost: str = ""
    mend: str = ""


def ok(name: str, what: str) -> Diagnosis:
    """Return a finding that needs no action."""
    return Diagnosis(id=name, status=DiagnosisStatus.OK, what=what)


def note(name: str, what: str, cost: str = "", mend: str = "") -> Diagnosis:
    """Return a finding that is worth knowing."""
    return Diagnosis(id=name, status=DiagnosisStatus.NOTE, what=what, cost=cost, mend=mend)


def warning(name: str, what: str, cost: str, mend: str = "") -> Diagnosis:
    """Return a finding that costs time or a feature."""
    return Diagnosis(id=name, status=DiagnosisStatus.WARNING, what=what, cost=cost, mend=mend)


def error(name: str, what: str, cost: str, mend: str = "") -> Diagnosis:
    """Return a finding that stops builds."""
    return Diagnosis(id=name, status=DiagnosisStatus.ERROR, what=what, cost=cost, mend=mend)
