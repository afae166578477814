"""How large a YAML document is with its aliases followed: a file of a few lines can hold billions of values. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import yaml

_MOST_VALUES = 1_000_000


def verify_growth(document: yaml.Node | None) -> None:
    """Raise ValueError for a document of more than a million values, each counted wherever it stands.

    A value that holds itself is endless. Raises RecursionError for one that is nested too deep.
    """
    if document is not None and _count(document, {}) > _MOST_VALUES:
        raise ValueError("its aliases make it far larger than it is")


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values of a node; ``known`` are those of nodes by identity, 0 while they are counted."""
    found = known.get(id(node))
    if found == 0:
        raise ValueError("a value holds itself by an alias")
    if found is None:
        known[id(node)] = 0
        found = known[id(node)] = 1 + sum(_count(child, known) for child in _children(node))
    return found


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node.value, list):  # of a sequence nodes, of a mapping pairs of them
        for item in node.value:
            yield from item if isinstance(item, tuple) else (item,)
