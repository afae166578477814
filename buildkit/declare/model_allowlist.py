"""What the user lives with in model files: ``requirements/models.allow.toml``.

``[[global]]`` are names that a pickle may use beyond our own list, ``[[accept]]`` findings of one file that were
looked at. Both need a reason, for whoever reads the file next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.declare.schema import Field, ListOf, Place, Table, Text
from buildkit.declare.toml import parse_toml
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem

ALLOW_FILE = "requirements/models.allow.toml"

_REASON = Field(Text(r"(?s).*\S.*", "a reason: who looked at it, and why it is fine"), "why it is fine", required=True)
_ALLOW = Table(
    {
        "global": Field(
            ListOf(
                Table(
                    {
                        "name": Field(
                            Text(r"[^\W\d]\w*(\.[^\W\d]\w*)+", "MODULE.NAME, in full"),
                            "MODULE.NAME that a pickle may use",
                            required=True,
                        ),
                        "reason": _REASON,
                    }
                )
            ),
            "names that pickles may use",
        ),
        "accept": Field(
            ListOf(
                Table(
                    {
                        "rule": Field(Text(r"[a-z0-9]+(-[a-z0-9]+)*", "a rule's id"), "a rule's id", required=True),
                        "sha256": Field(Text(r"[0-9a-f]{64}", "a SHA-256"), "of the file", required=True),
                        "reason": _REASON,
                    }
                )
            ),
            "findings that were looked at",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """``globals`` as ``MODULE.NAME``; ``accepted`` is rule and file to the reason."""

    globals: frozenset[str] = frozenset()
    accepted: Mapping[tuple[str, FileHash], str] = field(default_factory=dict)


def parse_allow(text: str, file: str) -> Allow:
    """Read an allow-file; raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    table = _ALLOW.read(parse_toml(text, file), Place(file, problems)) or {}
    if problems:
        raise DefinitionError.of(problems)
    return Allow(
        globals=frozenset(entry["name"] for entry in table.get("global", ())),
        accepted={(one["rule"], FileHash(one["sha256"])): one["reason"] for one in table.get("accept", ())},
    )


def load_allow(folder: Path, file: str = "") -> Allow:
    """Read the project's allow-file, which need not be there, or the one that is named; raises DefinitionError."""
    name = file or ALLOW_FILE
    try:
        return parse_allow((folder / name).read_text("utf-8"), name)
    except (FileNotFoundError, NotADirectoryError):
        if not file:
            return Allow()
        raise DefinitionError(f"{name}: there is no such allow-file") from None
    except UnicodeDecodeError:
        raise DefinitionError(f"{name}: not UTF-8 text") from None
    except OSError as error:
        raise DefinitionError(f"{name}: cannot be read: {error.strerror}") from error
