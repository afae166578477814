"""References to the CIS Docker Benchmark 1.6.0."""

from __future__ import annotations


def cis(*sections: str) -> tuple[str, ...]:
    """Return the references of a rule to sections of the benchmark."""
    return tuple(f"CIS Docker Benchmark {section}" for section in sections)
