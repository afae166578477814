"""Identifiers of layers in local storage, which knows a layer by everything below it. Pure.

The lowest layer's is its diff_id, any other's the SHA-256 of its parent's, ``+`` and its diff_id: those that
containers/image computes (storage_dest.go), so podman recognises a layer that it would otherwise import.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from buildkit.digest import DiffId

_PAGE = 4096  # bytes of options that mount(2) takes
_OTHER_OPTIONS = 600  # upperdir, workdir and label: each of the two has an id of 64 digits
SHORTEST_LINK = 2
_USUAL_LINK = 4


def chain_ids(diff_ids: Iterable[DiffId]) -> tuple[str, ...]:
    """Return the identifier of every layer, lowest first."""
    found: list[str] = []
    for diff_id in diff_ids:
        found.append(hashlib.sha256(f"{found[-1]}+{diff_id.hex}".encode()).hexdigest() if found else diff_id.hex)
    return tuple(found)


def link_name(layer: str, length: int) -> str:
    """Return a short name under which a layer can be mounted: base32, at most 52 characters."""
    return base64.b32encode(bytes.fromhex(layer)).decode()[:length]


def most_layers(folder: Path) -> int:
    """Return how many layers of a store at ``folder`` older podman can mount: their paths share a page of options."""
    path = f"{folder}/overlay/l/"
    return (_PAGE - _OTHER_OPTIONS) // (len(path.encode()) + _USUAL_LINK + 1)
