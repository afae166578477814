"""What the ledger remembers of earlier builds, for those who ask why: recipes by key, and when a key was built."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from buildkit.cache.database import Database
from buildkit.digest import Key

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
    row = ledger.one(query, (key, key))
    return None if row is None or Key.of(row[1].encode()).hex != key else (row[0], row[1])


def find_built(ledger: Database, keys: Iterable[str]) -> dict[str, Built]:
    """When layers were last built here, of those that were."""
    wanted = set(keys)
    rows = ledger.select_in("SELECT key, built FROM layers WHERE times > 0 AND key IN", sorted(wanted))
    found = {key: Built(at=at) for key, at in rows}
    told: set[str] = set()
    query = "SELECT started, stage, report FROM builds WHERE instr(report, '\"built\"') ORDER BY id DESC LIMIT ?"
    for started, stage, report in ledger.select(query, (_BUILDS,)):
        with ledger.decoding():
            layers = json.loads(report)["layers"]
        for layer in layers:
            key = layer["key"].removeprefix("sha256:")
            if layer["source"] == "built" and key in wanted - told:
                found[key] = Built(at=started, stage=stage, why=layer["why"])
                told.add(key)
        if told == wanted:
            break
    return found
