"""What a template's variables, attributes of its namespaces, and lists may hold, whatever order its statements have."""

from __future__ import annotations

from buildkit.scan.formats.templates.values import NOTHING, Possible, union


class Environs:
    """Tables that only grow; once ``widening``, constants that come later are no longer followed."""

    def __init__(self) -> None:
        self.variables: dict[str, Possible] = {}
        self.attributes: dict[str, Possible] = {}
        self.outputs: dict[str, Possible] = {}  # what macros and blocks print
        self.outer: frozenset[str] = frozenset()  # variables that may come from the caller
        self.added = NOTHING  # what is put into any list or dictionary by a method
        self.changed = False
        self.widening = False

    def note(self, table: dict[str, Possible], name: str, value: Possible) -> None:
        """Note that an entry may have this value."""
        before = table.get(name, NOTHING)
        after = self._after(before, value)
        if after != before:
            table[name], self.changed = after, True

    def add(self, value: Possible) -> None:
        """Note that any list or dictionary may contain this value."""
        after = self._after(self.added, value)
        if after != self.added:
            self.added, self.changed = after, True

    def _after(self, before: Possible, value: Possible) -> Possible:
        after = union(before, value)
        return after if after == before or not self.widening else union(before, value.widen())
