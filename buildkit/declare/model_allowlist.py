"""What the user lives with in model files: ``requirements/models.allow.toml``.

``[[global]]`` are names that a pickle may use beyond our own list, ``[[accept]]`` findings of one file that were
looked at. Both need a reason, for whoever reads the file next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.declare.schema import KeySchema, ListSchema, TableSchema, TextSchema, ValueLocation
from buildkit.declare.toml import parse_toml
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem

ALLOW_FILE = "requirements/models.allow.toml"

_REASON = KeySchema(
    TextSchema(r"(?s).*\S.*", "a reason: who looked at it, and why it is fine"), "why it is fine", required=True
)
_ALLOW = TableSchema(
    {
        "global": KeySchema(
            ListSchema(
                TableSchema(
                    {
                        "name": KeySchema(
                            TextSchema(r"[^\W\d]\w*(\.[^\W\d]\w*)+", "MODULE.NAME, in full"),
                            "MODULE.NAME that a pickle may use",
                            required=True,
                        ),
                        "reason": _REASON,
                    }
                )
            ),
            "names that pickles may use",
        ),
        "accept": KeySchema(
            ListSchema(
                TableSchema(
                    {
                        "rule": KeySchema(
                            TextSchema(r"[a-z0-9]+(-[a-z0-9]+)*", "a rule's id"), "a rule's id", required=True
                        ),
                        "sha256": KeySchema(TextSchema(r"[0-9a-f]{64}", "a SHA-256"), "of the file", required=True),
                        "reason": _REASON,
                    }
                )
            ),
            "findings that were looked at",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAllowlist:
    """``globals`` as ``MODULE.NAME``; ``accepted`` is rule and file to the reason."""

    globals: frozenset[str] = frozenset()
    accepted: Mapping[tuple[str, FileHash], str] = field(default_factory=dict)


def parse_allowlist(text: str, file: str) -> ModelAllowlist:
    """Read an allow-file; raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    table = _ALLOW.read(parse_toml(text, file), ValueLocation(file, problems)) or {}
    if problems:
        raise DefinitionError.of(problems)
    return ModelAllowlist(
        globals=frozenset(entry["name"] for entry in table.get("global", ())),
        accepted={(one["rule"], FileHash(one["sha256"])): one["reason"] for one in table.get("accept", ())},
    )


def load_allowlist(folder: Path, file: str = "") -> ModelAllowlist:
    """Read the project's allow-file, which need not be there, or the one that is named; raises DefinitionError."""
    name = file or ALLOW_FILE
    try:
        return parse_allowlist((folder / name).read_text("utf-8"), name)
    except (FileNotFoundError, NotADirectoryError):
        if not file:
            return ModelAllowlist()
        raise DefinitionError(f"{name}: there is no such allow-file") from None
    except UnicodeDecodeError:
        raise DefinitionError(f"{name}: not UTF-8 text") from None
    except OSError as error:
        raise DefinitionError(f"{name}: cannot be read: {error.strerror}") from error
