"""Sets of layers that were found free of collisions: each set on its root is checked once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit.digest import Key, canonical_json
from buildkit.plan.compose import Composition
from buildkit.store.layer_bytes import LayerBytes
from buildkit.store.ledger import Ledger

if TYPE_CHECKING:
    from buildkit.build.collisions import AskListing

_RULES = 2  # raised when a set of layers that passed is to be checked again


def check_collisions(composition: Composition, ledger: Ledger, layers: LayerBytes, ask: AskListing) -> None:
    """Check a set of layers with `CollisionCheck`, unless it passed before; raises CollisionError."""
    checked = set_key(composition)
    if ledger.collision_checks.has(checked):
        return
    from buildkit.build.collisions import CollisionCheck  # a build with nothing to do reads no listing

    CollisionCheck(composition, ledger, layers, ask).run()
    ledger.collision_checks.add(checked)


def set_key(composition: Composition) -> Key:
    """Return the key under which layers, in any order, on their root are recorded as free of collisions."""
    layers = sorted(spec.key.hex for spec in composition.layers)
    preferred = [[*composition.prefer]] if composition.prefer else []
    return Key.of(canonical_json([_RULES, [spec.key.hex for spec in composition.root], layers, *preferred]).encode())
