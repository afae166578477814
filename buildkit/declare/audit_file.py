"""Findings of audits that a project accepts, each for a reason: ``stages/NAME/audit.toml``."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from buildkit.declare.schema import KeySchema, ListSchema, TableSchema, TextSchema, ValueLocation
from buildkit.declare.toml import parse_toml
from buildkit.errors import DefinitionError, Problem
from buildkit.findings import Finding
from buildkit.lazy_dataclass import dataclass

_FILE = TableSchema(
    {
        "accept": KeySchema(
            ListSchema(
                TableSchema(
                    {
                        "rule": KeySchema(
                            TextSchema(r"[a-z0-9]+(-[a-z0-9]+)*", "a rule's id"), "a rule's id", required=True
                        ),
                        "path": KeySchema(
                            TextSchema(r"[^/\0][^\0]*", "a path in the image, without a leading `/`"),
                            "of the file in the image; * matches any characters. Without it: findings about no file",
                        ),
                        "reason": KeySchema(
                            TextSchema(r"(?s).*\S.*", "a reason: who reviewed it, and why it may stay"),
                            "why it may stay",
                            required=True,
                        ),
                    }
                )
            ),
            "findings that were reviewed",
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAcceptance:
    """A rule and a pattern of paths (empty: no path) whose findings are accepted; ``file`` says so."""

    rule: str
    path: str
    reason: str
    file: str

    def covers(self, finding: Finding) -> bool:
        """Tell whether it is about the finding."""
        return finding.rule.id == self.rule and fnmatchcase(finding.path, self.path)


def parse_acceptances(text: str, file: str) -> tuple[AuditAcceptance, ...]:
    """Parse an ``audit.toml``. Raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    table = _FILE.read(parse_toml(text, file), ValueLocation(file, problems)) or {}
    if problems:
        raise DefinitionError.of(problems)
    return tuple(
        AuditAcceptance(rule=entry["rule"], path=entry.get("path", ""), reason=entry["reason"], file=file)
        for entry in table.get("accept", ())
    )


def load_acceptances(folder: Path, stages: Iterable[str]) -> tuple[AuditAcceptance, ...]:
    """Load what these stages accept; a stage need not have the file. Raises DefinitionError."""
    found: list[AuditAcceptance] = []
    for stage in stages:
        file = f"stages/{stage}/audit.toml"
        try:
            found += parse_acceptances((folder / file).read_text("utf-8"), file)
        except FileNotFoundError:
            continue
        except UnicodeDecodeError:
            raise DefinitionError(f"{file}: not UTF-8 text") from None
        except OSError as error:
            raise DefinitionError(f"{file}: cannot be read: {error.strerror}") from error
    return tuple(found)
