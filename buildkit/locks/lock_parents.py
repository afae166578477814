"""The parents of each pin: from the ``# via`` comments of uv and pip-compile, or as locks of other tools list them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.declare.toml import Table, find_table, parse_toml
from buildkit.locks.requirements_txt import normalise_name

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*+)\s*+(?:\[[^]]*+\])?\s*+(?:==|@ git\+)|(?:-e\s+)?(\.{1,2}/[^\s;\[]*)")
_VIA = re.compile(r"\s+#\s+via(?:\s+(.*))?")
_MORE = re.compile(r"\s+#\s{2,}(\S.*)")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def parse_via(text: str) -> dict[str, tuple[str, ...]]:
    """Return the normalised names of each pin's parents, by the pin's normalised name (a local package's path).

    A pin that only an input requires (``-r requirements/api.in``) has no parents.
    """
    needed: dict[str, list[str]] = {}
    current: list[str] | None = None
    in_comment = False
    for line in text.splitlines():
        if pin := _PIN.match(line):
            current = needed.setdefault(normalise_name(pin[1]) if pin[1] else pin[2].rstrip("/"), [])
            in_comment = False
        elif via := _VIA.fullmatch(line):
            in_comment = True
            _add(current, via[1] or "")
        elif in_comment and (more := _MORE.fullmatch(line)):
            _add(current, more[1])
    return {name: tuple(sorted(set(parents))) for name, parents in needed.items()}


def parse_parents(text: str, file: str) -> dict[str, tuple[str, ...]]:
    """Return the same for the lock of another tool, whatever the markers. Raises DefinitionError."""
    needed: dict[str, set[str]] = {}
    table = parse_toml(text, file)
    for package in _tables(table.get("package") or table.get("packages")):
        for name in _dependencies(package):
            needed.setdefault(normalise_name(name), set()).add(normalise_name(str(package.get("name", ""))))
    return {name: tuple(sorted(parents)) for name, parents in needed.items()}


def _dependencies(package: Table) -> Iterator[str]:
    """Yield what a package needs, as uv and pylock.toml (lists of tables) or poetry (a table) say it."""
    needs = package.get("dependencies")
    yield from needs if isinstance(needs, dict) else ()
    for entries in (needs, *find_table(package, "optional-dependencies").values()):
        yield from (entry["name"] for entry in _tables(entries) if isinstance(entry.get("name"), str))


def _tables(value: object) -> Iterator[Table]:
    yield from (entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else ()


def _add(parents: list[str] | None, word: str) -> None:
    name = _NAME.match(word)
    if parents is not None and name:  # `-r FILE` and `-c FILE` begin otherwise
        parents.append(normalise_name(name[0]))
