"""What a layer claims of the file system, in short: enough to tell most layers apart without their listings.

A claim is a path, cut to its first six parts (``opt/venv/lib/python3.13/site-packages/numpy``): a wheel comes to a
handful. Layers whose claims do not meet cannot own one path, nor can a file of one be a folder of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from buildkit.digest import Key

_PARTS = 6


def claims_of(paths: Iterable[str]) -> tuple[str, ...]:
    """The claims of a layer that owns ``paths`` (relative, no folders among them), sorted."""
    return tuple(sorted({"/".join(path.split("/", _PARTS)[:_PARTS]) for path in paths}))


def find_meetings(layers: Mapping[Key, Iterable[str]]) -> set[Key]:
    """Those layers whose claims meet another layer's: only their listings can tell whether they collide."""
    owners: dict[str, list[Key]] = {}
    for key, claims in layers.items():
        for claim in claims:
            owners.setdefault(claim, []).append(key)
    met: set[Key] = set()
    for claim, keys in owners.items():
        above = [key for folder in _above(claim) for key in owners.get(folder, ())]
        if len({*keys, *above}) > 1:
            met.update(keys, above)
    return met


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
