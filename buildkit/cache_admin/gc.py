"""``cache -- gc``: drop what no stage needs, from the cache and from local storage.

It holds the cache alone, so no build is under way: half-written files and locks are of builds that died, and nothing is
taken that a build planned with. Killed at any point it leaves nothing wrong: what is said of a layer that was evicted
means nothing while its blobs are there, and a row without blobs is never believed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildkit.build.context import BuildContext, open_context
from buildkit.cache_admin.inventory import DOWNLOAD, Holding, Holdings, State, take_stock, weigh
from buildkit.cache_admin.list_layers import describe
from buildkit.cache_admin.needed_keys import Needed, find_needed
from buildkit.cache_admin.stored_images import Leftovers, choose_gone, find_leftovers, remove_leftovers
from buildkit.declare.graph import load_graph
from buildkit.declare.project import Project, load_project
from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError
from buildkit.events import Emit, Note
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_age, format_bytes, format_count, format_seconds
from buildkit.report.view import open_view
from buildkit.store.cache_files import Found, remove
from buildkit.store.eviction import Choice, Rules, choose
from buildkit.store.maintenance import LedgerMaintenance, RetainedRows

KEEP_DAYS = 14.0
WHY = "evicted by gc"
_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GcOptions:
    """What is asked for. Without ``max_size`` all goes that is not needed and was not used for ``keep_days`` (14).

    With ``max_size`` only so much goes that the cache is no larger, and age protects only where it is said.
    """

    max_size: int | None = None
    keep_days: float | None = None
    dry_run: bool = False

    def rules(self, now: float) -> Rules:
        """The same for the decision."""
        days = self.keep_days if self.keep_days is not None or self.max_size is not None else KEEP_DAYS
        return Rules(now=now, keep=None if days is None else days * _DAY, limit=self.max_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearance:
    """What goes: ``items`` of the cache, dearer ones later, ``trash`` (temporary files, blobs of no layer), empty
    ``locks``, and what is left over in local storage; ``needed`` bytes stay because stages need them.
    """

    items: tuple[Holding, ...]
    choice: Choice
    trash: tuple[Found, ...]
    locks: tuple[Found, ...]
    leftovers: Leftovers
    needed: int

    @property
    def freed(self) -> int:
        """Bytes of the cache."""
        return self.choice.freed + sum(found.size for found in self.trash)


def gc(folder: Path, options: GcOptions, *, as_json: bool) -> int:
    """Decide, act unless it is a dry run, and print; returns 0.

    Where it fails, what went until then is printed all the same. Raises DefinitionError where what the stages need
    cannot be known, BuildError, or Interrupted.
    """
    done: list[Clearance] = []
    try:
        with open_view(sys.stderr) as emit:
            project = load_project(folder)
            _look_first(project, folder, emit)
            with open_context(project, emit, alone=True) as context:
                needed = find_needed(context, load_graph(folder), emit)
                now = time.time()
                clearance = _decide(context, needed, options.rules(now), emit)
                if options.dry_run:
                    done.append(clearance)
                else:
                    _act(context, needed, clearance, now, done)
    finally:
        for one in done:
            if as_json:
                sys.stdout.write(json.dumps(_as_json(one, options), indent=2) + "\n")
            else:
                _print(one, options, now)
    return 0


def _look_first(project: Project, folder: Path, emit: Emit) -> None:
    """Find mistakes, and hash files, while builds may go on."""
    try:
        with open_context(project, emit) as context:
            find_needed(context, load_graph(folder), lambda _event: None)
    except BuildError:
        return  # a full disk opens the ledger only to one who is alone; whatever else it is, it is said then


def _decide(context: BuildContext, needed: Needed, rules: Rules, emit: Emit) -> Clearance:
    holdings = take_stock(context.ledger, context.blobs.folder, needed)
    ahead, layers = LedgerMaintenance(context.ledger).count_used_in_future(rules.now)
    if 2 * ahead > layers:
        emit(
            Note(
                text="most layers were used in the future: is this host's clock right? they count as new", warning=True
            )
        )
    choice = choose((one.as_thing() for one in holdings.items if one.files), rules, holdings.fixed)
    known = {one.id: one for one in holdings.items}
    clearance = Clearance(
        items=tuple(known[thing.id] for thing in choice.things),
        choice=choice,
        trash=(*holdings.inventory.temporaries, *holdings.orphans),
        locks=holdings.inventory.locks,
        leftovers=find_leftovers(context.project.name, needed.refs, context.blobs.notes, emit),
        needed=weigh(one for one in holdings.items if one.stages),
    )
    if rules.limit is not None and choice.left > rules.limit:
        emit(Note(text=_say_over(rules, clearance), warning=True))
    return clearance


def _act(context: BuildContext, needed: Needed, clearance: Clearance, now: float, done: list[Clearance]) -> None:
    """Act, and add what was done: all of it, or, where that fails, what went until then, if anything did."""
    gone: set[str] = set()
    try:
        _clear(context, needed, clearance, now, gone)
    except BaseException:
        went = _choose_gone(context.blobs.folder, clearance, gone)
        if went.freed or went.leftovers != Leftovers():
            done.append(went)
        raise
    done.append(replace(clearance, leftovers=choose_gone(clearance.leftovers, gone)))


def _choose_gone(folder: Path, clearance: Clearance, gone: Collection[str]) -> Clearance:
    """What went of all that should, ``gone`` from local storage."""
    choice = clearance.choice
    paths = tuple(path for path in choice.files if not (folder / path).exists())
    sizes = {path: size for one in clearance.items for path, size in one.files.items()}
    trash = tuple(found for found in clearance.trash if not (folder / found.path).exists())
    freed = sum(sizes[path] for path in paths)
    kept = choice.freed - freed + sum(found.size for found in set(clearance.trash) - set(trash))
    return replace(
        clearance,
        items=tuple(one for one in clearance.items if not one.files.keys().isdisjoint(paths)),
        choice=replace(choice, files=paths, freed=freed, left=choice.left + kept),
        trash=trash,
        leftovers=choose_gone(clearance.leftovers, gone),
    )


def _clear(context: BuildContext, needed: Needed, clearance: Clearance, now: float, gone: set[str]) -> None:
    folder, maintenance = context.blobs.folder, LedgerMaintenance(context.ledger)
    remove(folder, (found.path for found in (*clearance.trash, *clearance.locks)))
    graves = [(Key(one.hash), one.name) for one in clearance.items if one.kind != DOWNLOAD]
    try:
        maintenance.record_tombstones(graves, WHY)
    except BuildError:  # a full disk has room for words only when the files are gone
        remove(folder, clearance.choice.files)
        maintenance.record_tombstones(graves, WHY)
    remove(folder, clearance.choice.files)
    left = take_stock(context.ledger, folder, needed)
    maintenance.prune(_still(left, needed), now)
    remove_leftovers(clearance.leftovers, context.blobs.notes, gone)


def _still(left: Holdings, needed: Needed) -> RetainedRows:
    there = [one for one in left.items if one.state is State.PRESENT]
    return RetainedRows(
        present={Key(one.hash) for one in there if one.kind != DOWNLOAD},
        needed=needed.layers.keys(),
        checked=needed.checked,
        downloads={FileHash(one.hash) for one in there if one.kind == DOWNLOAD},
        files=needed.files,
    )


def _say_over(rules: Rules, clearance: Clearance) -> str:
    recent = f" or was used in the last {rules.keep / _DAY:g} days" if rules.keep else ""
    return (
        f"{format_bytes(clearance.choice.left)} are left, more than {format_bytes(rules.limit or 0)}: "
        f"what remains is needed by the stages ({format_bytes(clearance.needed)}){recent}"
    )


def _print(clearance: Clearance, options: GcOptions, now: float) -> None:
    columns = (
        Column(title="dropped" if not options.dry_run else "to drop"),
        Column(title="kind"),
        Column(title="size", right=True),
        Column(title="rebuild", right=True),
        Column(title="used", right=True),
    )
    print_columns(columns, list(_rows(clearance, now)), sys.stdout)
    sys.stdout.write(f"{_say_what(clearance, options)}; {_say_left(clearance)}\n")


def _say_what(clearance: Clearance, options: GcOptions) -> str:
    left = clearance.leftovers
    things = {
        "thing": len(clearance.items) + len(clearance.trash),
        "image": len(left.images) + len(left.names),
        "container": len(left.containers),
    }
    said = [format_count(count, what) for what, count in things.items() if count]
    if not said:
        return "nothing to drop"
    if things["thing"]:
        said[0] += f" ({format_bytes(clearance.freed)})"
    return f"{'would drop' if options.dry_run else 'dropped'} {', '.join(said)}"


def _say_left(clearance: Clearance) -> str:
    return f"{format_bytes(clearance.choice.left)} are left, of which {format_bytes(clearance.needed)} are needed"


def _rows(clearance: Clearance, now: float) -> Iterator[tuple[str, ...]]:
    for one, size in zip(clearance.items, _sizes(clearance), strict=True):
        yield one.name, one.kind, format_bytes(size), format_seconds(one.seconds), format_age(now - one.used)
    for found in clearance.trash:
        kind = "blob of no layer" if found.path.startswith("sha256/") else "temporary"
        yield found.name[:12], kind, format_bytes(found.size), "", format_age(now - found.mtime)
    for image in clearance.leftovers.images:
        name = image.names[0] if image.names else image.id[:12]
        yield name, "image", format_bytes(image.size), "", ""
    for name in clearance.leftovers.names:
        yield name, "image name", "", "", ""
    for name in clearance.leftovers.containers:
        yield name, "container", "", "", ""


def _sizes(clearance: Clearance) -> list[int]:
    """Bytes that each item frees; a file that several share counts with the first."""
    gone = set(clearance.choice.files)
    sizes = []
    for one in clearance.items:
        sizes.append(sum(size for path, size in one.files.items() if path in gone))
        gone -= one.files.keys()
    return sizes


def _as_json(clearance: Clearance, options: GcOptions) -> dict[str, Any]:
    left = clearance.choice.left
    return {
        "dry_run": options.dry_run,
        "dropped": [describe(one) for one in clearance.items],
        "trash": [{"path": found.path, "size": found.size} for found in clearance.trash],
        "images": [{"id": image.id, "names": list(image.names)} for image in clearance.leftovers.images],
        "names": list(clearance.leftovers.names),
        "containers": list(clearance.leftovers.containers),
        "freed": clearance.freed,
        "left": left,
        "needed": clearance.needed,
        "limit": options.max_size,
        "over": options.max_size is not None and left > options.max_size,
    }
