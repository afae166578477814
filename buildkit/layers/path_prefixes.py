"""Path prefixes: which part of the file system a layer owns, short enough to compare layers without their listings.

A prefix is a path cut to its first parts. It stands for everything at that path and below it. A layer's paths are cut
to six parts (``opt/venv/lib/python3.13/site-packages/numpy``), or fewer if that gives too many prefixes; a wheel has a
handful. Layers whose prefixes do not overlap cannot own the same path, nor can a file of one be a folder of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from buildkit.digest import Key
from buildkit.layers.tar.contents import FOLDER
from buildkit.layers.tar.member_path import parents_of

MAX_PREFIXES = 1000
"""Prefixes of a layer; the records of 64 layers must fit into a manifest."""
_PARTS = 6


def path_prefixes_of(listing: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the sorted prefixes of a layer with this listing (`layers.tar.listing`).

    An empty folder of a root ends in a slash: a layer may put something into it, but not a file in its place.
    """
    prefixes = {f"{path}/" if content == FOLDER else path for path, content in listing}
    for parts in range(_PARTS, 0, -1):
        prefixes = {_cut(path, parts) for path in prefixes}
        if len(prefixes) <= MAX_PREFIXES:
            break
    return tuple(sorted(prefixes))


def _cut(path: str, parts: int) -> str:
    names = path.split("/", parts + 1)
    in_bytecode = names[parts - 1 : parts] == ["__pycache__"]  # modules of one file share that folder
    return "/".join(names[: parts + in_bytecode])


def find_overlaps(layers: Mapping[Key, Iterable[str]]) -> set[Key]:
    """Return the layers whose prefixes overlap those of another layer: only their listings show if they collide."""
    owners: dict[str, set[Key]] = {}
    for key, prefixes in layers.items():
        for prefix in prefixes:
            owners.setdefault(prefix, set()).add(key)
    overlapping: set[Key] = set()
    for prefix, keys in owners.items():
        together = keys.union(*(owners[parent] for parent in parents_of(prefix) if parent in owners))
        if len(together) > 1:
            overlapping |= together
    return overlapping


def make_overlap_test(prefixes: Iterable[str]) -> Callable[[Iterable[str]], bool]:
    """Return what tells whether the prefixes of a layer overlap these, as `find_overlaps` does; for many layers."""
    owned = frozenset(prefixes)
    above = frozenset(parent for prefix in owned for parent in parents_of(prefix))

    def overlaps(others: Iterable[str]) -> bool:
        return any(one in owned or one in above or not owned.isdisjoint(parents_of(one)) for one in others)

    return overlaps
