"""What to do when a package does not compile in the builder, by what pip printed there."""

from __future__ import annotations

import re

_MISSING = (
    ("build backend", re.compile(r"Cannot import build backend '([\w.]{1,100})")),
    ("module", re.compile(r"No module named '?([\w.]{1,100})\b")),
)


def advise_builder(output: str) -> str:
    """Return the hint for a package that could not be compiled, or described, in the builder."""
    for kind, pattern in _MISSING:
        if found := pattern.search(output):
            return (
                f"the builder lacks the {kind} `{found[1]}`: add what has it, most often a package that [build-system] "
                "in pyproject.toml requires, to an input of the builder's stage, and run: nox -s lock"
            )
    return "does the builder have its build system, and pip (22.2 or newer)? see the inputs of the builder's stage"
