"""``cache -- verify``: read everything again, drop what is damaged, and say what does not fit together.

It holds the cache with the builds, not alone: reading takes its time. A build that planned with a blob that is dropped
here plans again. What no row speaks of may be of a build that has not written its row yet, so it is looked for only
when no build is under way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from buildkit.build.context import BuildContext, open_context
from buildkit.cache_admin.inventory import DOWNLOAD, Holding, State, take_stock
from buildkit.declare.project import load_project
from buildkit.digest import Key
from buildkit.errors import Interrupted
from buildkit.events import Emit, StepFinished, StepProgress, StepStarted
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_bytes, format_count, format_seconds
from buildkit.report.view import open_view
from buildkit.store.blobs import Blobs
from buildkit.store.damaged_rows import DamagedRow
from buildkit.store.integrity import Reader
from buildkit.store.ledger import Ledger
from buildkit.store.maintenance import LedgerMaintenance

DAMAGED, MISSING = "damaged, found by verify", "missing, found by verify"
_STEP = "blobs and downloads"
_ANEW = "the next build that needs it makes it anew"
_GC = "gc removes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something that is not as it should be: of what, what is wrong, and what becomes of it."""

    name: str
    what: str
    then: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheVerification:
    """What was read, ``files`` ``of`` so many, and what is wrong."""

    files: int
    of: int
    size: int
    seconds: float
    flaws: tuple[Flaw, ...]

    @property
    def complete(self) -> bool:
        """Whether everything was read."""
        return self.files == self.of


def verify(folder: Path, *, as_json: bool) -> int:
    """Read, drop what is damaged, and print; returns 1 if anything was damaged or missing, else 0.

    Where it is interrupted, what it did until then is printed all the same.
    """
    verdicts: list[CacheVerification] = []
    notes: tuple[Flaw, ...] = ()
    try:
        with open_view(sys.stderr) as emit:
            with open_context(load_project(folder), emit) as context:
                _look(context, emit, verdicts)
            notes = tuple(find_unknown(context.blobs))
    finally:
        for verdict in verdicts:
            (_write_json if as_json else _print)(verdict, notes)
    return 1 if verdicts[0].flaws else 0


def _look(context: BuildContext, emit: Emit, verdicts: list[CacheVerification]) -> None:
    """Read everything; the verdict is there also if it is interrupted."""
    began, maintenance = time.monotonic(), LedgerMaintenance(context.ledger)
    anew = "remove ledger.sqlite: layers are built again"
    flaws = [Flaw(name="ledger", what=text, then=anew) for text in context.ledger.database.find_corruption()]
    if not flaws:
        flaws += [_dropped_row(row) for row in maintenance.delete_damaged_rows()]
    holdings = take_stock(context.ledger, context.blobs.folder, None)
    files = (*holdings.inventory.blobs, *holdings.inventory.files)
    emit(StepStarted(step=_STEP, phase="verify", total=sum(found.size for found in files)))
    reader = Reader(context.blobs.folder, lambda done: emit(StepProgress(step=_STEP, done=done)), context.stop)
    try:
        reader.read(files)
        emit(StepFinished(step=_STEP, phase="verify", seconds=time.monotonic() - began, size=reader.size))
    finally:
        hurt = [one for one in holdings.items if reader.wrong.keys() & set(one.paths)]
        lost = [one for one in holdings.items if one.state is State.MISSING and one not in hurt]
        flaws += _flaws(context.blobs, reader.wrong, hurt)
        flaws += [Flaw(name=one.name, what="it is not in the cache", then=_ANEW) for one in lost]
        seconds = round(time.monotonic() - began, 3)
        verdicts.append(
            CacheVerification(files=reader.files, of=len(files), size=reader.size, seconds=seconds, flaws=tuple(flaws))
        )
        maintenance.record_tombstones(_graves(hurt), DAMAGED)  # so that a build can say why it builds
        maintenance.record_tombstones(_graves(lost), MISSING)


def _dropped_row(row: DamagedRow) -> Flaw:
    if row.table == "layers":
        return Flaw(name=row.name, what="its row in the ledger is damaged", then=f"removed; {_ANEW}")
    name = f"a row of `{row.table}` in the ledger"
    return Flaw(name=name, what="it is damaged", then="removed; what it said is found out anew")


def _flaws(blobs: Blobs, wrong: Mapping[str, str], hurt: Sequence[Holding]) -> Iterator[Flaw]:
    for path, what in sorted(wrong.items()):
        then = "left as it is" if (blobs.folder / path).exists() else f"removed; {_ANEW}"
        yield Flaw(name=_name(path, hurt), what=what, then=then)


def find_unknown(blobs: Blobs) -> Iterator[Flaw]:
    """What is there and known to nobody, if no build is under way."""
    try:
        with (
            blobs.in_use(alone=True, waiting=lambda: None, stopped=lambda: True),  # now or never
            closing(Ledger(blobs.folder / "ledger.sqlite", alone=True)) as ledger,
        ):
            holdings = take_stock(ledger, blobs.folder, None)
    except Interrupted:
        yield Flaw(name="blobs of no layer", what="not looked for: the cache is in use", then="verify again later")
        return
    for found in holdings.orphans:
        yield Flaw(name=found.path[:19], what=f"a blob of no layer ({format_bytes(found.size)})", then=_GC)
    for found in holdings.inventory.temporaries:
        yield Flaw(name=found.path, what=f"left by a build that died ({format_bytes(found.size)})", then=_GC)


def _graves(items: Iterable[Holding]) -> list[tuple[Key, str]]:
    return [(Key(one.hash), one.name) for one in items if one.kind != DOWNLOAD]


def _name(path: str, hurt: Iterable[Holding]) -> str:
    """Whom a file belongs to."""
    return ", ".join(sorted({one.name for one in hurt if path in one.paths})) or path


def _write_json(verdict: CacheVerification, notes: tuple[Flaw, ...]) -> None:
    answer = {
        "ok": verdict.complete and not verdict.flaws,
        "complete": verdict.complete,
        "files": verdict.files,
        "size": verdict.size,
        "seconds": verdict.seconds,
        "flaws": [asdict(flaw) for flaw in verdict.flaws],
        "notes": [asdict(note) for note in notes],
    }
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def _print(verdict: CacheVerification, notes: tuple[Flaw, ...]) -> None:
    columns = (Column(title="name"), Column(title="what"), Column(title="then"))
    print_columns(columns, [(flaw.name, flaw.what, flaw.then) for flaw in (*verdict.flaws, *notes)], sys.stdout)
    count = "" if verdict.complete else f"{verdict.files} of "
    files = f"{count}{format_count(verdict.of, 'file')}"
    read = f"{files} read ({format_bytes(verdict.size)}) in {format_seconds(verdict.seconds)}"
    wrong = f"{len(verdict.flaws)} damaged or missing" if verdict.flaws else "nothing is damaged or missing"
    sys.stdout.write(f"{read}: {wrong}\n")
