"""The tables ``builds`` and ``phases``: reports of builds that did something, and what their phases took."""

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


class PhaseRow(NamedTuple):
    """A phase of a build: ``started`` is when the build was; wall and CPU seconds, bytes read and written."""

    stage: str
    name: str
    started: float
    seconds: float
    cpu: float
    read: int
    written: int


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
        with self._database.transaction():
            self._table.put(row)
            (build,) = self._database.select_one("SELECT last_insert_rowid()")
            for name, spent in report["timings"].items():
                phase = (build, name, spent["seconds"], spent["cpu"], spent["read"], spent["written"])
                self._database.execute("INSERT INTO phases VALUES (?,?,?,?,?,?)", phase)

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

    def phases(self, builds: int) -> list[PhaseRow]:
        """Return the phases of the last builds."""
        rows = self._database.select(
            "SELECT stage, name, started, phases.seconds, cpu, read, written FROM phases JOIN builds ON id = build "
            "WHERE id > (SELECT MAX(id) FROM builds) - ? ORDER BY id, phases.seconds DESC",
            (builds,),
        )
        with self._database.decoding():
            return [
                PhaseRow(str(a), str(b), float(c), float(d), float(e), int(f), int(g)) for a, b, c, d, e, f, g in rows
            ]

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
        """Delete all but the last builds of each image, with their phases; return how many builds."""
        count = self._database.execute(
            "DELETE FROM builds WHERE id IN (SELECT id FROM "
            "(SELECT id, ROW_NUMBER() OVER (PARTITION BY stage, image ORDER BY id DESC) AS n FROM builds) WHERE n > ?)",
            (_KEPT_BUILDS,),
        )
        self._database.execute("DELETE FROM phases WHERE build NOT IN (SELECT id FROM builds)")
        return count
