"""What the ledger remembers of earlier builds, for those who ask why: recipes by key, and when a key was built."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from buildkit.store.database import Database
from buildkit.store.ledger import Layer, is_recipe_of

_BUILDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """When a layer was built here (seconds since the epoch), for which stage, and why, as the report said it.

    Stage and reason are empty where no report tells: the layer was made on the way to another, as builders are.
    """

    at: float
    stage: str = ""
    why: str = ""


def find_recipe(ledger: Database, key: str) -> tuple[str, str] | None:
    """Name and recipe of a layer, or the recipe of a compiled wheel under no name; None for an unknown key.

    A recipe that was altered since counts for none.
    """
    query = "SELECT name, recipe FROM layers WHERE key = ? UNION ALL SELECT '', recipe FROM wheels WHERE key = ?"
    rows = ledger.select(query, (key, key))
    return next(((str(name), recipe) for name, recipe in rows if is_recipe_of(key, recipe)), None)


def find_built(ledger: Database, keys: Iterable[str]) -> dict[str, Built]:
    """When layers were last built here, of those that were."""
    wanted = set(keys)
    rows = ledger.whole("layers", "WHERE times > 0 AND key IN", tuple(sorted(wanted)))
    found = {row.key: Built(at=row.built) for row in (Layer(*row) for row in rows)}
    told: set[str] = set()
    condition = "WHERE instr(report, '\"built\"') ORDER BY id DESC LIMIT ?"
    for stage, _image, _digest, started, _seconds, report in ledger.whole("builds", condition, (_BUILDS,)):
        with ledger.decoding():
            layers = [layer for layer in json.loads(report)["layers"] if layer["source"] == "built"]
            named = {layer["key"].removeprefix("sha256:"): layer["why"] for layer in layers}
        for key in sorted(named.keys() & (wanted - told)):
            found[key] = Built(at=started, stage=stage, why=named[key])
            told.add(key)
        if told == wanted:
            break
    return found
