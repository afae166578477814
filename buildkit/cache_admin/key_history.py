"""Find out what a key stands for, which stages need it, and in which builds it was used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from buildkit.cache_admin.inventory import DOWNLOAD, TREE, Inventory, InventoryItem
from buildkit.cache_admin.list_layers import format_state, item_as_json
from buildkit.cache_admin.needed_keys import Needed
from buildkit.cache_admin.recipe_text import describe_recipe
from buildkit.digest import Key
from buildkit.report.text import format_age, format_bytes, format_date, format_seconds
from buildkit.store.build_history import find_recipe
from buildkit.store.ledger import Ledger
from buildkit.store.tables.builds import LayerUse
from buildkit.store.tables.layers import RecordedLayer

MIN_PREFIX_DIGITS = 4
_SHOWN_BUILDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHistory:
    """Everything that is known of a layer, wheel or download; ``item`` is None if it was never built."""

    name: str
    kind: str
    hash: str
    stages: tuple[str, ...] | None
    item: InventoryItem | None = None
    layer: RecordedLayer | None = None
    recipe: str = ""
    uses: tuple[LayerUse, ...] = ()

    @property
    def state(self) -> str:
        """The stages that need it, and the reason why it is gone."""
        return format_state(self.item) if self.item else "not made yet"

    def as_json(self) -> dict[str, Any]:
        """Return it as docs/cache.md describes it."""
        blobs = self.layer.blobs if self.layer else ()
        return {
            **(item_as_json(self.item) if self.item else self._unbuilt_as_json()),
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
                {"image": use.image, "started": round(use.started, 3), "source": use.source, "why": use.why}
                for use in self.uses
            ],
        }

    def _unbuilt_as_json(self) -> dict[str, Any]:
        """Return the fields of `item_as_json` for a layer that was never built."""
        identity = {"name": self.name, "kind": self.kind, "key": f"sha256:{self.hash}", "state": "unmade", "gone": None}
        return {**identity, "size": 0, "seconds": None, "built": None, "used": None, "times": 0}


def find_histories(query: str, inventory: Inventory, needed: Needed | None, ledger: Ledger) -> list[KeyHistory]:
    """Return the histories of items with this name or hash prefix: needed ones first, then the newest."""
    digits = query.removeprefix("sha256:").lower()
    is_prefix = re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX_DIGITS},64}}", digits) is not None

    def matches(name: str, hashes: Iterable[str]) -> bool:
        return name == query or (is_prefix and any(text.startswith(digits) for text in hashes))

    layers = {layer.key.hex: layer for layer in ledger.layers.all()}
    histories = []
    for item in inventory.items:
        layer = layers.get(item.hash) if item.has_key else None
        diff_ids = {blob.diff_id.hex for blob in layer.blobs} if layer else set()
        if matches(item.name, {item.hash, *(path.split("/")[1] for path in item.paths), *diff_ids}):
            histories.append(_item_history(item, layer, ledger))
    known = {item.hash for item in inventory.items}
    for key, spec in needed.specs.items() if needed else ():
        if key.hex not in known and matches(spec.name, {key.hex}):
            stages = needed.layers[key] if needed else ()
            histories.append(
                KeyHistory(name=spec.name, kind=spec.kind, hash=key.hex, stages=stages, recipe=spec.recipe)
            )
    return sorted(
        histories,
        key=lambda history: (not history.stages, -(history.item.built if history.item else 0.0), history.hash),
    )


def _item_history(item: InventoryItem, layer: RecordedLayer | None, ledger: Ledger) -> KeyHistory:
    recipe = find_recipe(ledger, item.hash) if item.has_key else None
    return KeyHistory(
        name=item.name,
        kind=item.kind,
        hash=item.hash,
        stages=item.stages,
        item=item,
        layer=layer,
        recipe=recipe[1] if recipe else "",
        uses=ledger.builds.uses_of(Key(item.hash)) if item.has_key else (),
    )


def render_history(history: KeyHistory, now: float) -> list[str]:
    """Return a history as lines; ``now`` is in seconds since the epoch."""
    item = history.item
    lines = [f"{history.name} ({history.kind})"]
    lines.append(f"  {'sha256' if history.kind in (DOWNLOAD, TREE) else 'key':<9} {history.hash}")
    if item is None:
        users = ", ".join(history.stages or ())
        lines.append(f"  {'state':<9} not made yet; needed by {users}")
    else:
        lines += [f"  {title:<9} {text}" for title, text in _fields(item, history, now)]
    if history.uses:
        lines.append(f"  {'builds':<9} it took part in {len(history.uses)}:")
        lines += [
            f"    {format_date(use.started)}  {use.image}: {_format_use(use)}" for use in history.uses[:_SHOWN_BUILDS]
        ]
    if history.recipe:
        lines += ["", *describe_recipe(history.recipe), ""]
        lines.append(json.dumps(json.loads(history.recipe), indent=2, ensure_ascii=False))
    return lines


def _fields(item: InventoryItem, history: KeyHistory, now: float) -> Iterator[tuple[str, str]]:
    yield "state", format_state(item)
    if item.gone:
        yield "gone", f"{item.gone.why} on {format_date(item.gone.at)}"
    for blob in history.layer.blobs if history.layer else ():
        yield "blob", f"{blob.digest.hex} ({format_bytes(blob.size)} stored, {blob.compression.value})"
        yield "diff_id", f"{blob.diff_id.hex} ({format_bytes(blob.unpacked)} unpacked)"
    if not history.layer:
        yield "file", ", ".join(f"{path} ({format_bytes(item.files.get(path, 0))})" for path in item.paths)
    times = {0: "by another machine", 1: "once"}.get(item.times, f"{item.times} times")
    yield "built", f"{format_date(item.built)} ({_ago(now - item.built)}), {times}, in {format_seconds(item.seconds)}"
    yield "used", f"{format_date(item.used)} ({_ago(now - item.used)})"


def _ago(seconds: float) -> str:
    age = format_age(seconds)
    return age if age == "now" else f"{age} ago"


def _format_use(use: LayerUse) -> str:
    if use.source == "built":
        return f"built: {use.why}" if use.why else "built"
    return f"taken from {'local storage' if use.source == 'storage' else f'the {use.source}'}"
