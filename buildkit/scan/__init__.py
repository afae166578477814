"""Scan model files for code, without loading or running any of it.

This module is the public interface of the package: everybody outside imports from here only, which an import contract
enforces. The scanner itself is imported when something is scanned, because a build whose verdicts are all cached needs
only the rules' version.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from buildkit.scan.judgement import DIFFERS_FROM_LOCK, NOT_SCANNED, Judgement, is_clean, judge
from buildkit.scan.limits import ScanLimits
from buildkit.scan.result import UNKNOWN_CONTENT, Scan, ScanGap, Verdict
from buildkit.scan.source import BytesSource, FileSource, ScanSource
from buildkit.scan.version import rules_version

__all__ = [
    "DIFFERS_FROM_LOCK",
    "NOT_SCANNED",
    "UNKNOWN_CONTENT",
    "BytesSource",
    "FileSource",
    "Judgement",
    "Scan",
    "ScanGap",
    "ScanLimits",
    "ScanSource",
    "Verdict",
    "import_scanner",
    "is_clean",
    "judge",
    "library_globals",
    "recognise",
    "rules_version",
    "scan",
    "scan_wheel",
]


def import_scanner() -> None:
    """Import every format, so that an import error cannot be mistaken for a file that the scanner fails at."""
    import buildkit.scan.examine  # noqa: F401


def library_globals(libraries: Iterable[str]) -> frozenset[str]:
    """Return the names that pickles of these libraries may use, for ``allowed``.

    Raises:
        KeyError: there is no list for a library.
    """
    wanted = tuple(libraries)
    if not wanted:
        return frozenset()  # the usual case, in every build
    from buildkit.scan.pickle import lists

    return lists.library_globals(wanted)


def scan(
    path: str, source: ScanSource, *, limits: ScanLimits | None = None, allowed: frozenset[str] = frozenset()
) -> Scan:
    """Scan one file's content without loading or executing any of it.

    ``path`` is only the name that findings use; ``allowed`` are the globals that the user trusts beyond the built-in
    allow-list. A limit that ends the scan is a gap of the result.
    """
    from buildkit.scan.examine import examine

    return examine(path, source, limits or ScanLimits(), allowed)


def recognise(source: ScanSource) -> tuple[str, ...]:
    """Return the formats that the first look at a content finds, none for an unknown one or if a format fails."""
    from buildkit.scan.examine import find_formats

    return find_formats(source)


def scan_wheel(path: Path, allowed: frozenset[str]) -> Scan:
    """Scan a wheel for what runs or hides without an import; see `buildkit.scan.wheels.scan`. Raises WheelError."""
    from buildkit.scan.wheels.scan import scan_wheel as examine_wheel

    return examine_wheel(path, allowed)
