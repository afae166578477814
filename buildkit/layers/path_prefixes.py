"""What a layer claims of the file system, in short: enough to tell most layers apart without their listings.

A claim is a path, cut to its first parts, and stands for all that lies at it or below (six parts unless that comes to
too many claims: ``opt/venv/lib/python3.13/site-packages/numpy``, so that a wheel comes to a handful). Layers whose
claims do not meet cannot own one path, nor can a file of one be a folder of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from buildkit.digest import Key

MOST = 1000  # claims of a layer; the entries of 64 layers must fit into a manifest
_PARTS = 6


def claims_of(paths: Iterable[str]) -> tuple[str, ...]:
    """The claims of a layer that owns ``paths`` (relative, no folders among them), sorted."""
    claims = set(paths)
    for parts in range(_PARTS, 0, -1):
        claims = {_cut(path, parts) for path in claims}
        if len(claims) <= MOST:
            break
    return tuple(sorted(claims))


def _cut(path: str, parts: int) -> str:
    names = path.split("/", parts + 1)
    shared = names[parts - 1 : parts] == ["__pycache__"]  # of modules that are one file, side by side
    return "/".join(names[: parts + shared])


def find_meetings(layers: Mapping[Key, Iterable[str]]) -> set[Key]:
    """Those layers whose claims meet another layer's: only their listings can tell whether they collide."""
    owners: dict[str, set[Key]] = {}
    for key, claims in layers.items():
        for claim in claims:
            owners.setdefault(claim, set()).add(key)
    met: set[Key] = set()
    for claim, keys in owners.items():
        together = keys.union(*(owners[above] for above in _above(claim) if above in owners))
        if len(together) > 1:
            met |= together
    return met


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
