"""The allowlist of the model scan: ``requirements/models.allow.toml``.

``[[global]]`` are names that a pickle may use in addition to the built-in list; ``[[accept]]`` are findings of one
file that somebody has reviewed, ``[[accept-in-wheel]]`` those of files of a distribution, in any of its versions. All
require a reason, for the next reader of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from pathlib import Path

from buildkit.declare.schema import KeySchema, ListSchema, TableSchema, TextSchema, ValueLocation
from buildkit.declare.toml import parse_toml
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass

ALLOW_FILE = "requirements/models.allow.toml"
LIBRARIES = ("catboost", "lightgbm", "optuna", "pandas", "statsmodels", "xgboost")  # the scanner has a list for each

_REASON = KeySchema(
    TextSchema(r"(?s).*\S.*", "a reason: who reviewed it, and why it is harmless"), "why it is harmless", required=True
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
            "findings that were reviewed",
        ),
        "accept-in-wheel": KeySchema(
            ListSchema(
                TableSchema(
                    {
                        "rule": KeySchema(
                            TextSchema(r"[a-z0-9]+(-[a-z0-9]+)*", "a rule's id"), "a rule's id", required=True
                        ),
                        "distribution": KeySchema(
                            TextSchema(r"[a-z0-9]+(-[a-z0-9]+)*", "a normalised name"),
                            "as locks name it",
                            required=True,
                        ),
                        "path": KeySchema(
                            TextSchema(r"[^/\0][^\0]*", "a path in the wheel"),
                            "of the file in the wheel; * matches any characters",
                            required=True,
                        ),
                        "reason": _REASON,
                    }
                )
            ),
            "findings in wheels that were reviewed",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAllowlist:
    """``globals`` are ``MODULE.NAME``; ``accepted`` maps rule and file to the reason.

    ``in_wheels`` are rule, distribution and a pattern of paths.
    """

    globals: frozenset[str] = frozenset()
    accepted: Mapping[tuple[str, FileHash], str] = field(default_factory=dict)
    in_wheels: tuple[tuple[str, str, str], ...] = ()

    def accepts_in_wheel(self, rule: str, distribution: str, path: str) -> bool:
        """Return whether a finding of a wheel was reviewed; ``distribution`` is normalised."""
        return any(
            (rule, distribution) == (accepted, of) and fnmatchcase(path, pattern)
            for accepted, of, pattern in self.in_wheels
        )


def parse_allowlist(text: str, file: str) -> ModelAllowlist:
    """Parse an allowlist. Raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    table = _ALLOW.read(parse_toml(text, file), ValueLocation(file, problems)) or {}
    if problems:
        raise DefinitionError.of(problems)
    return ModelAllowlist(
        globals=frozenset(entry["name"] for entry in table.get("global", ())),
        accepted={(entry["rule"], FileHash(entry["sha256"])): entry["reason"] for entry in table.get("accept", ())},
        in_wheels=tuple(
            (entry["rule"], entry["distribution"], entry["path"]) for entry in table.get("accept_in_wheel", ())
        ),
    )


def load_allowlist(folder: Path, file: str = "") -> ModelAllowlist:
    """Load ``file``, or the project's allowlist, which need not exist. Raises DefinitionError."""
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
