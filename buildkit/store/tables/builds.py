"""The table ``builds``: reports of builds that did something."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from buildkit.digest import Key, canonical_json
from buildkit.store.database import Database
from buildkit.store.tables.table import LedgerTable

_SAMPLE = 400  # builds that a median is taken of
_EXPLAINED_BUILDS = 1000  # how far back the reason of a layer's build is looked for
_KEPT_BUILDS = 200  # of each image


class BuildRow(NamedTuple):
    """The summed columns, as they are stored; ``report`` is JSON."""

    stage: str
    image: str
    digest: str
    started: float
    seconds: float
    report: str


class LayerUse(NamedTuple):
    """The origin of a layer in a build (``built``, ``cache``, ``storage`` or ``shared``, a remote cache), and why."""

    image: str
    started: float
    source: str
    why: str


class BuildTable:
    """Rows of builds, in the order in which they finished."""

    def __init__(self, database: Database) -> None:
        self._table = LedgerTable(database, "builds", BuildRow)
        self._database = database

    def add(self, report: dict[str, Any], started: float) -> None:
        """Record a finished build by its report."""
        row = BuildRow(
            stage=report["stage"],
            image=report["image"],
            digest=report["digest"],
            started=float(started),
            seconds=float(report["seconds"]),
            report=canonical_json(report),
        )
        self._table.put(row)

    def last(self, stage: str, image: str, count: int) -> list[tuple[float, dict[str, Any]]]:
        """Return start (seconds since the epoch) and report of a stage's last builds, the latest first."""
        condition = "WHERE stage = ? AND image = ? ORDER BY id DESC LIMIT ?"
        rows = self._table.select(condition, (stage, image, count))
        if len(rows) < count:  # there are fewer, or some are damaged
            rows = self._table.select(condition, (stage, image, -1))[:count]
        with self._database.decoding():
            return [(row.started, json.loads(row.report)) for row in rows]

    def is_latest(self, stage: str, image: str, digest: str) -> bool:
        """Return whether the last build of a stage's image produced this digest; one query, as every build runs it."""
        query = "SELECT digest FROM builds WHERE stage = ? AND image = ? ORDER BY id DESC LIMIT 1"
        return bool(self._database.select_one(query, (stage, image)) == (digest,))

    def import_times(self) -> list[tuple[int, float]]:
        """Return bytes and seconds of recent imports into local storage."""
        rows = self._database.select(
            "SELECT CASE WHEN json_valid(report) THEN json_extract(report, '$.bytes.imported') END AS size, "
            "CASE WHEN json_valid(report) THEN json_extract(report, '$.phases.import') END "
            "FROM builds WHERE size > 0 ORDER BY id DESC LIMIT ?",
            (_SAMPLE,),
        )
        with self._database.decoding():
            return [(int(size), float(seconds)) for size, seconds in rows if seconds]

    def builds_with_new_layers(self) -> list[BuildRow]:
        """Return recent builds that built a layer, the latest first."""
        return self._table.select("WHERE instr(report, '\"built\"') ORDER BY id DESC LIMIT ?", (_EXPLAINED_BUILDS,))

    def uses_of(self, key: Key) -> tuple[LayerUse, ...]:
        """Return the recorded builds that a layer was part of, the latest first."""
        uses = []
        for row in self._table.select("WHERE instr(report, ?) ORDER BY id DESC", (str(key),)):
            with self._database.decoding():
                layers = [layer for layer in json.loads(row.report)["layers"] if layer["key"] == str(key)]
                uses += [LayerUse(row.image, row.started, layer["source"], layer["why"]) for layer in layers[:1]]
        return tuple(uses)

    def delete_old(self) -> int:
        """Delete all but the last builds of each image; return how many."""
        return self._database.execute(
            "DELETE FROM builds WHERE id IN (SELECT id FROM "
            "(SELECT id, ROW_NUMBER() OVER (PARTITION BY stage, image ORDER BY id DESC) AS n FROM builds) WHERE n > ?)",
            (_KEPT_BUILDS,),
        )
