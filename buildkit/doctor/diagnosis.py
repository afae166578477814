"""One line of the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DiagnosisStatus(StrEnum):
    """How bad: a note costs nothing today, a warning costs time or a feature, an error stops builds."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """``what`` is the case, what it ``cost``\\ s the user, and the one command that ``mend``\\ s it (may be empty)."""

    id: str
    status: DiagnosisStatus
    what: str
    cost: str = ""
    mend: str = ""


def ok(name: str, what: str) -> Diagnosis:
    """Nothing to do."""
    return Diagnosis(id=name, status=DiagnosisStatus.OK, what=what)


def note(name: str, what: str, cost: str = "", mend: str = "") -> Diagnosis:
    """Worth knowing."""
    return Diagnosis(id=name, status=DiagnosisStatus.NOTE, what=what, cost=cost, mend=mend)


def warning(name: str, what: str, cost: str, mend: str = "") -> Diagnosis:
    """Builds work, at a cost."""
    return Diagnosis(id=name, status=DiagnosisStatus.WARNING, what=what, cost=cost, mend=mend)


def error(name: str, what: str, cost: str, mend: str = "") -> Diagnosis:
    """Builds fail."""
    return Diagnosis(id=name, status=DiagnosisStatus.ERROR, what=what, cost=cost, mend=mend)
