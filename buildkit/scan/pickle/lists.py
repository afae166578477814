"""The lists of globals that pickles may and must not import, and the user's additions."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import field
from functools import cache
from importlib.resources import files

from buildkit.findings import Severity
from buildkit.lazy_dataclass import dataclass

NEVER_CALLED = "never called"  # in the title of a section of allowed.txt
HUBS = frozenset({"os", "posix", "nt", "subprocess", "builtins", "sys", "importlib", "ctypes"})


class Standing(enum.Enum):
    """The rating of a global by the lists."""

    ALLOWED = "allowed"
    UNKNOWN = "unknown"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def denied(self) -> bool:
        """Whether it is on the deny-list."""
        return self in (Standing.HIGH, Standing.CRITICAL)

    @property
    def severity(self) -> Severity:
        """Severity of a call."""
        return Severity.CRITICAL if self is Standing.CRITICAL else Severity.HIGH


@dataclass(frozen=True, slots=True)
class NameList:
    """Names by module; ``trees`` are modules whose names all count."""

    exact: dict[str, set[str]] = field(default_factory=dict)
    trees: set[str] = field(default_factory=set)

    def add(self, modules: list[str], names: list[str]) -> None:
        """Add one line of a list."""
        for module in modules:
            self.exact.setdefault(module, set()).update(name for name in names if name != "*")
            if "*" in names:
                self.trees.add(module)

    def covers(self, module: str) -> bool:
        """Return whether one of the trees contains ``module``."""
        return any(start in self.trees for start in dotted_prefixes(module))


def dotted_prefixes(dotted: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``."""
    at = dotted.find(".")
    while at >= 0:
        yield dotted[:at]
        at = dotted.find(".", at + 1)
    yield dotted


def parse_names(text: str) -> dict[str, NameList]:
    """Parse a list: sections ``[title]`` of lines ``modules: names``; ``#`` begins a comment."""
    sections: dict[str, NameList] = {}
    names = NameList()
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("["):
            names = sections.setdefault(line.strip("[]"), NameList())
        elif line:
            modules, _, listed = line.partition(": ")
            names.add(modules.split(), listed.split())
    return sections


def load_list(name: str) -> dict[str, NameList]:
    """Load a list of this package by file name."""
    return parse_names((files(__package__) / name).read_text(encoding="utf-8"))


@cache
def allowed_names() -> NameList:
    """Return the allow-list."""
    merged = NameList()
    for names in load_list("allowed.txt").values():
        for module, listed in names.exact.items():
            merged.exact.setdefault(module, set()).update(listed)
        merged.trees.update(names.trees)
    return merged


def library_globals(libraries: Iterable[str]) -> frozenset[str]:
    """Return what pickles of these libraries import, as ``module.name`` or, with restrictions, ``module.name()``.

    Raises:
        KeyError: there is no list for a library.
    """
    lists = load_list("libraries.txt")
    return frozenset(
        f"{module}.{name}"
        for library in libraries
        for module, listed in lists[library].exact.items()
        for name in listed
    )


@cache
def never_called_names() -> dict[str, set[str]]:
    """Return the names of the allow-list that are allowed as values only: sections whose title says so."""
    merged: dict[str, set[str]] = {}
    for title, names in load_list("allowed.txt").items():
        if NEVER_CALLED in title:
            for module, listed in names.exact.items():
                merged.setdefault(module, set()).update(listed)
    return merged


@cache
def denied_names() -> tuple[tuple[Standing, NameList], ...]:
    """Return the deny-list, worst first."""
    return tuple((Standing(title.partition(":")[0]), names) for title, names in load_list("denied.txt").items())


def is_user_trusted(module: str, name: str, extra: frozenset[str]) -> bool:
    """Return whether the user's list has the name, perhaps as ``name()``, or ``module.*`` without dotted names."""
    if f"{module}.{name}" in extra or f"{module}.{name}()" in extra:
        return True
    plain = "." not in name and not name.startswith("__")
    return plain and any(f"{start}.*" in extra for start in dotted_prefixes(module))


def find_denial(module: str, name: str) -> Standing:
    """Return the worst rating by the deny-list of ``module.name`` or of anything on the path to it."""
    paths = [(module, name)]
    parts = f"{module}.{name}".split(".")[:16]
    # a.b.os.system reaches os, which b imported
    paths += [(part, ".".join(parts[at + 1 :])) for at, part in enumerate(parts) if at and part in HUBS]
    for standing, names in denied_names():
        for start, rest in paths:
            if names.covers(start) or not names.exact.get(start, set()).isdisjoint(dotted_prefixes(rest)):
                return standing
    return Standing.UNKNOWN


def classify(module: str, name: str, extra: frozenset[str] = frozenset()) -> Standing:
    """Rate ``module.name``; what the user trusts is allowed whatever the lists say."""
    if is_user_trusted(module, name, extra):
        return Standing.ALLOWED
    allowed = allowed_names()
    if not allowed.exact.get(module, set()).isdisjoint((name, f"{name}()")):
        return Standing.ALLOWED
    if name and "." not in name and not name.startswith("__") and allowed.covers(module):
        return Standing.ALLOWED
    return find_denial(module, name)
