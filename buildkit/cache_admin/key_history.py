"""``cache -- why KEY``: what a key stands for, who needs it, and what became of it."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.cache_admin.inventory import DOWNLOAD, Holding, Holdings, open_holdings
from buildkit.cache_admin.list_layers import describe, say_state
from buildkit.cache_admin.needed_keys import Needed
from buildkit.cache_admin.recipe_text import describe_recipe
from buildkit.digest import Key
from buildkit.errors import DefinitionError
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_age, format_bytes, format_date, format_seconds, sanitize
from buildkit.report.view import open_view
from buildkit.store.build_history import find_recipe
from buildkit.store.ledger import Ledger
from buildkit.store.tables.builds import LayerUse
from buildkit.store.tables.layers import RecordedLayer

_LEAST = 4  # digits that a prefix must have
_MOST = 5  # builds that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One thing that was asked for: what is held of it (None before it was ever made), and all that is known."""

    name: str
    kind: str
    hash: str
    stages: tuple[str, ...] | None
    held: Holding | None = None
    row: RecordedLayer | None = None
    recipe: str = ""
    parts: tuple[LayerUse, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As docs/cache.md describes it."""
        blobs = self.row.blobs if self.row else ()
        return {
            **(describe(self.held) if self.held else self._describe_unmade()),
            "needed_by": None if self.stages is None else list(self.stages),
            "recipe": json.loads(self.recipe) if self.recipe else None,
            "blobs": [
                {
                    "digest": str(blob.digest),
                    "diff_id": str(blob.diff_id),
                    "size": blob.size,
                    "unpacked": blob.unpacked,
                    "compression": blob.compression.value,
                }
                for blob in blobs
            ],
            "builds": [
                {"image": part.image, "started": round(part.started, 3), "source": part.source, "why": part.why}
                for part in self.parts
            ],
        }

    def _describe_unmade(self) -> dict[str, Any]:
        """What `describe` says of a thing that is there, of one that was never made."""
        named = {"name": self.name, "kind": self.kind, "key": f"sha256:{self.hash}", "state": "unmade", "gone": None}
        return {**named, "size": 0, "seconds": None, "built": None, "used": None, "times": 0}


def why(folder: Path, asked: str, *, as_json: bool) -> int:
    """Print what is known of ``asked``, or a list of what it may mean; returns 0. Raises DefinitionError."""
    with open_view(sys.stderr) as emit, open_holdings(folder, emit) as (context, needed, holdings):
        subjects = find_subjects(asked, holdings, needed, context.ledger)
    if not subjects:
        hint = "say at least four digits of a key, digest or diff_id, or a name that nox -s cache -- ls shows"
        raise DefinitionError(f"nothing here is called `{asked}`", hint=hint)
    if as_json:
        sys.stdout.write(json.dumps([subject.as_json() for subject in subjects], indent=2) + "\n")
        return 0
    first, *others = subjects
    if not others or first.name == asked:  # a name means the version that is needed, or the newest
        sys.stdout.write(sanitize("\n".join(render_subject(first, time.time()))) + "\n")
        title = "other versions of it"
    else:
        title = f"`{asked}` may be"
        others = subjects
    if others:
        _print_list(title, others)
    return 0


def find_subjects(asked: str, holdings: Holdings, needed: Needed | None, ledger: Ledger) -> list[Subject]:
    """Things of that name, or of a hash that begins so; what is needed first, then the newest."""
    digits = asked.removeprefix("sha256:").lower()
    by_hash = re.fullmatch(rf"[0-9a-f]{{{_LEAST},64}}", digits) is not None

    def meant(name: str, hashes: Iterable[str]) -> bool:
        return name == asked or (by_hash and any(text.startswith(digits) for text in hashes))

    rows = {row.key.hex: row for row in ledger.layers.all()}
    found = []
    for one in holdings.items:
        row = rows.get(one.hash) if one.kind != DOWNLOAD else None
        diff_ids = {blob.diff_id.hex for blob in row.blobs} if row else set()
        if meant(one.name, {one.hash, *(path.split("/")[1] for path in one.paths), *diff_ids}):
            found.append(_subject(one, row, ledger))
    known = {one.hash for one in holdings.items}
    for key, spec in needed.specs.items() if needed else ():
        if key.hex not in known and meant(spec.name, {key.hex}):
            stages = needed.layers[key] if needed else ()
            found.append(Subject(name=spec.name, kind=spec.kind, hash=key.hex, stages=stages, recipe=spec.recipe))
    return sorted(found, key=lambda one: (not one.stages, -(one.held.built if one.held else 0.0), one.hash))


def _subject(one: Holding, row: RecordedLayer | None, ledger: Ledger) -> Subject:
    is_download = one.kind == DOWNLOAD
    return Subject(
        name=one.name,
        kind=one.kind,
        hash=one.hash,
        stages=one.stages,
        held=one,
        row=row,
        recipe="" if is_download else (find_recipe(ledger, one.hash) or ("", ""))[1],
        parts=() if is_download else ledger.builds.uses_of(Key(one.hash)),
    )


def render_subject(subject: Subject, now: float) -> list[str]:
    """All of it, in lines."""
    held = subject.held
    lines = [f"{subject.name} ({subject.kind})"]
    lines.append(f"  {'sha256' if subject.kind == DOWNLOAD else 'key':<9} {subject.hash}")
    if held is None:
        users = ", ".join(subject.stages or ())
        lines.append(f"  {'state':<9} not made yet; needed by {users}")
    else:
        lines += [f"  {word:<9} {text}" for word, text in _facts(held, subject, now)]
    if subject.parts:
        lines.append(f"  {'builds':<9} it took part in {len(subject.parts)}:")
        lines += [f"    {format_date(part.started)}  {part.image}: {_say_part(part)}" for part in subject.parts[:_MOST]]
    if subject.recipe:
        lines += ["", *describe_recipe(subject.recipe), ""]
        lines.append(json.dumps(json.loads(subject.recipe), indent=2, ensure_ascii=False))
    return lines


def _facts(held: Holding, subject: Subject, now: float) -> Iterator[tuple[str, str]]:
    yield "state", say_state(held)
    if held.gone:
        yield "gone", f"{held.gone.why} on {format_date(held.gone.at)}"
    for blob in subject.row.blobs if subject.row else ():
        yield "blob", f"{blob.digest.hex} ({format_bytes(blob.size)} stored, {blob.compression.value})"
        yield "diff_id", f"{blob.diff_id.hex} ({format_bytes(blob.unpacked)} unpacked)"
    if not subject.row:
        yield "file", ", ".join(f"{path} ({format_bytes(held.files.get(path, 0))})" for path in held.paths)
    times = {0: "by another machine", 1: "once"}.get(held.times, f"{held.times} times")
    yield "built", f"{format_date(held.built)} ({_ago(now - held.built)}), {times}, in {format_seconds(held.seconds)}"
    yield "used", f"{format_date(held.used)} ({_ago(now - held.used)})"


def _ago(seconds: float) -> str:
    age = format_age(seconds)
    return age if age == "now" else f"{age} ago"


def _say_part(part: LayerUse) -> str:
    if part.source == "built":
        return f"built: {part.why}" if part.why else "built"
    return f"taken from {'local storage' if part.source == 'storage' else f'the {part.source}'}"


def _print_list(title: str, subjects: Sequence[Subject]) -> None:
    columns = (Column(title="key"), Column(title="name"), Column(title="kind"), Column(title="state"))
    rows = [
        (one.hash[:12], one.name, one.kind, say_state(one.held) if one.held else "not made yet") for one in subjects
    ]
    sys.stdout.write(f"{sanitize(title)}:\n")
    print_columns(columns, rows, sys.stdout)
