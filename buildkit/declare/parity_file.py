"""``stages/NAME/parity.toml``: in what a stage may differ from the one that it stands for."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

from buildkit.declare.schema import KeySchema, ListSchema, TableSchema, TextSchema, ValueLocation
from buildkit.declare.toml import parse_toml
from buildkit.errors import DefinitionError, Problem

SORTS = ("root", "system-package", "layer", "package", "model", "file", "config", "label", "variable", "flag")
CHANGES = ("added", "removed", "changed")
_ALLOW = TableSchema(
    {
        "what": KeySchema(TextSchema(choices=SORTS), "the sort of what differs", required=True),
        "name": KeySchema(TextSchema(r"[^\0]+", "a name or a pattern"), "its name; `*` stands for any", required=True),
        "change": KeySchema(TextSchema(choices=CHANGES), "how it may differ (default: in any way)"),
        "why": KeySchema(TextSchema(r"[^\0]*\S[^\0]*", "a reason"), "the reason", required=True),
    }
)
_PARITY = TableSchema({"allow": KeySchema(ListSchema(_ALLOW), "differences that are meant")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A difference that is meant: its sort, a pattern of names, how it may differ (empty: in any way), and why."""

    what: str
    name: str
    why: str
    change: str = ""

    def covers(self, what: str, name: str, change: str) -> bool:
        """Return whether a difference is meant."""
        return self.what == what and self.change in ("", change) and fnmatch.fnmatchcase(name, self.name)


def load_allowances(folder: Path, stage: str) -> tuple[Allowance, ...]:
    """Return what a stage's file allows; nothing without a file. Raises DefinitionError with every problem."""
    file = f"stages/{stage}/parity.toml"
    try:
        text = (folder / file).read_text("utf-8")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise DefinitionError(f"{file}: not UTF-8 text") from None
    problems: list[Problem] = []
    read = _PARITY.read(parse_toml(text, file), ValueLocation(file, problems)) or {}
    if problems:
        raise DefinitionError.of(problems)
    return tuple(Allowance(**item) for item in read.get("allow", ()))
