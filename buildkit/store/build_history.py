"""Find why and when layers were built: recipes by key, and the builds that built a layer."""

from __future__ import annotations

import json
from collections.abc import Iterable

from buildkit.lazy_dataclass import dataclass
from buildkit.store.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltRecord:
    """The last build of a layer on this host: its time (seconds since the epoch), stage, and reason by the report.

    Stage and reason are empty if no report has them: the layer was built for another one, as builders are.
    """

    at: float
    stage: str = ""
    why: str = ""


def find_recipe(ledger: Ledger, key: str) -> tuple[str, str] | None:
    """Return name and recipe of a layer, or an empty name and the recipe of a compiled wheel.

    None for an unknown key, and for a recipe that was altered.
    """
    layer = ledger.layers.recipe(key)
    if layer is not None:
        return layer
    recipe = ledger.wheels.recipe(key)
    return None if recipe is None else ("", recipe)


def find_built(ledger: Ledger, keys: Iterable[str]) -> dict[str, BuiltRecord]:
    """Return the last builds of layers on this host, by key; layers that were never built here are absent."""
    requested = set(keys)
    records = {key: BuiltRecord(at=at) for key, at in ledger.layers.built_times(requested).items()}
    explained: set[str] = set()
    for row in ledger.builds.builds_with_new_layers():
        with ledger.database.decoding():
            layers = [layer for layer in json.loads(row.report)["layers"] if layer["source"] == "built"]
            reasons = {layer["key"].removeprefix("sha256:"): layer["why"] for layer in layers}
        for key in sorted(reasons.keys() & (requested - explained)):
            records[key] = BuiltRecord(at=row.started, stage=row.stage, why=reasons[key])
            explained.add(key)
        if explained == requested:
            break
    return records
