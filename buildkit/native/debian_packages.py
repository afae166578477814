"""Find the Debian package that ships a library: by a table of common ones, else by Debian's naming rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from buildkit.lazy_dataclass import dataclass

SUITES = ("bookworm", "trixie")
_VERSIONED = re.compile(r"lib[^/\s]+\.so\.\d[^/\s]*|lib[^/\s]+-\d[\d.]*\.so")


@dataclass(frozen=True, slots=True)
class Package:
    """A package, and whether it is known to ship the library or only guessed from the name."""

    name: str
    known: bool


def find_suite(release: str) -> str | None:
    """Return the suite of an os-release(5) text, empty if it names none; None if the system is not Debian-like."""
    pairs = (line.partition("=") for line in release.splitlines())
    fields = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    if "debian" not in (fields.get("ID", ""), *fields.get("ID_LIKE", "").split()):
        return None
    return fields.get("VERSION_CODENAME", "")


def find_package(soname: str, suite: str) -> Package | None:
    """Find the package with ``soname`` in a suite; None for a name that no Debian library would have."""
    if (row := _find_row(soname)) is None:
        return Package(_name(soname), known=False) if _VERSIONED.fullmatch(soname) else None
    if suite in row:
        return Package(row[suite], known=True)
    return Package(row.get(SUITES[-1], next(iter(row.values()))), known=False)


def _find_row(soname: str) -> Mapping[str, str] | None:
    """Find the row of a name, or of the name without the last numbers of its version (``libgomp.so.1.0.0``)."""
    name, mark, version = soname.partition(".so.")
    numbers = version.split(".") if mark else []
    names = (soname, *(f"{name}.so.{'.'.join(numbers[:count])}" for count in range(len(numbers) - 1, 0, -1)))
    return next((_table()[candidate] for candidate in names if candidate in _table()), None)


def _name(soname: str) -> str:
    """Return the package name by Debian Policy, section 8.1."""
    name = re.sub(r"([0-9])\.so\.", r"\1-", soname)
    return re.sub(r"\.so(?:\.|\Z)", "", name).replace("_", "-").lower()


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    text = files("buildkit.native").joinpath("debian.txt").read_text("utf-8")
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {
        soname: {suite: name for suite, name in zip(SUITES, names, strict=True) if name != "-"}
        for soname, *names in rows
    }
