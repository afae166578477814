"""``cache -- verify``: read everything again, drop what is damaged, and say what does not fit together.

It holds the cache with the builds, not alone: reading takes its time. A build that planned with a blob that is dropped
here plans again. What no row speaks of may be of a build that has not written its row yet, so it is looked for only
when no build is under way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from buildkit.cache.blobs import Blobs
from buildkit.cache.ledger import Ledger
from buildkit.cache.reading import read_again
from buildkit.cache.stock import Stock
from buildkit.declare.project import load_project
from buildkit.digest import Key
from buildkit.engine.shop import Shop, open_shop
from buildkit.errors import Interrupted
from buildkit.events import Say, StepFinished, StepProgress, StepStarted
from buildkit.report.columns import Column, print_columns
from buildkit.report.view import open_view
from buildkit.report.words import say_bytes, say_count, say_seconds
from buildkit.upkeep.holdings import DOWNLOAD, Holding, State, take_stock

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
class Verdict:
    """What was read, and what is wrong."""

    files: int
    size: int
    seconds: float
    flaws: tuple[Flaw, ...]


def verify(folder: Path, *, as_json: bool) -> int:
    """Read, drop what is damaged, and print; returns 1 if anything was damaged or missing, else 0."""
    with open_view(sys.stderr) as say:
        with open_shop(load_project(folder), say, 1) as shop:
            verdict = _look(shop, say)
        notes = tuple(find_unknown(shop.blobs))
    if as_json:
        value = {"ok": not verdict.flaws, **asdict(verdict), "notes": [asdict(note) for note in notes]}
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        _print(verdict, notes)
    return 1 if verdict.flaws else 0


def _look(shop: Shop, say: Say) -> Verdict:
    began, stock = time.monotonic(), Stock(shop.ledger)
    anew = "remove ledger.sqlite: layers are built again"
    flaws = [Flaw(name="ledger", what=text, then=anew) for text in stock.check()]
    holdings = take_stock(shop.ledger, shop.blobs.folder, None)
    files = (*holdings.inventory.blobs, *holdings.inventory.files)
    size = sum(found.size for found in files)
    say(StepStarted(step=_STEP, phase="verify", total=size))
    wrong = read_again(shop.blobs.folder, files, lambda done: say(StepProgress(step=_STEP, done=done)), shop.stop)
    seconds = time.monotonic() - began
    say(StepFinished(step=_STEP, phase="verify", seconds=seconds, size=size))
    hurt = [one for one in holdings.items if wrong.keys() & set(one.paths)]
    lost = [one for one in holdings.items if one.state is State.MISSING and one not in hurt]
    stock.bury(_graves(hurt), DAMAGED)  # so that a build can say why it builds
    stock.bury(_graves(lost), MISSING)
    for path, what in wrong.items():
        then = "left as it is" if (shop.blobs.folder / path).exists() else f"removed; {_ANEW}"
        flaws.append(Flaw(name=_name(path, hurt), what=what, then=then))
    flaws += [Flaw(name=one.name, what="it is not in the cache", then=_ANEW) for one in lost]
    return Verdict(files=len(files), size=size, seconds=round(seconds, 3), flaws=tuple(flaws))


def find_unknown(blobs: Blobs) -> Iterator[Flaw]:
    """What is there and known to nobody, if no build is under way."""
    try:
        with (
            blobs.in_use(alone=True, waiting=lambda: None, stopped=lambda: True),  # now or never
            closing(Ledger(blobs.folder / "ledger.sqlite", alone=True)) as ledger,
        ):
            holdings = take_stock(ledger, blobs.folder, None)
    except Interrupted:
        yield Flaw(name="blobs of no layer", what="not looked for: builds are under way", then="verify again later")
        return
    for found in holdings.orphans:
        yield Flaw(name=found.path[:19], what=f"a blob of no layer ({say_bytes(found.size)})", then=_GC)
    for found in holdings.inventory.temporaries:
        yield Flaw(name=found.path, what=f"left by a build that died ({say_bytes(found.size)})", then=_GC)


def _graves(items: Iterable[Holding]) -> list[tuple[Key, str]]:
    return [(Key(one.hash), one.name) for one in items if one.kind != DOWNLOAD]


def _name(path: str, hurt: Iterable[Holding]) -> str:
    """Whom a file belongs to."""
    return ", ".join(sorted({one.name for one in hurt if path in one.paths})) or path


def _print(verdict: Verdict, notes: tuple[Flaw, ...]) -> None:
    columns = (Column(title="name"), Column(title="what"), Column(title="then"))
    print_columns(columns, [(flaw.name, flaw.what, flaw.then) for flaw in (*verdict.flaws, *notes)], sys.stdout)
    read = f"{say_count(verdict.files, 'file')} read ({say_bytes(verdict.size)}) in {say_seconds(verdict.seconds)}"
    wrong = f"{len(verdict.flaws)} damaged or missing" if verdict.flaws else "nothing is damaged or missing"
    sys.stdout.write(f"{read}: {wrong}\n")
