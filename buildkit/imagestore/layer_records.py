"""The layers of an image store in their chains: ``overlay/ID``, ``overlay/l`` and ``overlay-layers/layers.json``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildkit.digest import DiffId
from buildkit.errors import LostError
from buildkit.imagestore.layer_chain import SHORTEST_LINK, chain_ids, link_name
from buildkit.imagestore.storage_lock import read_own_records, storage_locked, write_records
from buildkit.imagestore.trees import TreeFolder
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.image import EPOCH
from buildkit.store.file_locks import remove_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLayer:
    """A layer in its chain: the identifier of the layer below ("" for none), and its diff_id."""

    parent: str
    diff_id: DiffId


def find_below(layers: Mapping[str, StoreLayer], tops: Iterable[str]) -> dict[str, StoreLayer]:
    """Return the layers that are in the chains of ``tops``; others than ours are ignored."""
    found: dict[str, StoreLayer] = {}
    for top in tops:
        while top in layers and top not in found:
            found[top] = layers[top]
            top = layers[top].parent  # noqa: PLW2901 - it climbs down
    return found


def read_layer_ids(folder: Path) -> frozenset[str]:
    """Return the identifiers of the layers of a store, of whichever version: podman reads them, too.

    Raises BuildError if its records are damaged.
    """
    records = read_own_records(folder / "overlay-layers/layers.json", lambda record: "id" in record)
    return frozenset(record["id"] for record in records)


class LayerRecords:
    """The records of layers; each refers to the tree of its diff_id."""

    def __init__(self, folder: Path, trees: TreeFolder) -> None:
        self._overlay = folder / "overlay"
        self._folder = folder / "overlay-layers"
        self._trees = trees
        self._file = self._folder / "layers.json"
        self._lock = self._folder / "layers.lock"

    def all(self) -> dict[str, StoreLayer]:
        """Return every layer by its identifier."""
        return {record["id"]: _layer(record) for record in self._records()}

    def whole(self) -> set[str]:
        """Return the identifiers of layers that have a record and a folder."""
        return {record["id"] for record in self._records() if self._has_folder(record["id"], record.get("parent", ""))}

    def has(self, diff_ids: Sequence[DiffId]) -> bool:
        """Return whether the tools find a chain; it is looked at as they do, from the top, and nothing is parsed.

        A chain has its records together, and the top layer lists the folders of the others.
        """
        ids = chain_ids(diff_ids)
        folder = self._overlay / ids[-1]
        try:
            records = self._file.read_bytes()
            lower = (folder / "lower").read_text().split(":") if len(ids) > 1 else []
            links = [f"l/{(folder / 'link').read_text()}", *lower]
        except FileNotFoundError:
            return False
        places = (*(f"{self._overlay}/{link}/." for link in links), *map(self._tar_split, ids))
        return (
            len(links) == len(ids)
            and f'"{ids[-1]}"'.encode() in records
            and records.endswith(b"]")
            and all(map(os.path.exists, places))
        )

    def _tar_split(self, layer: str) -> str:
        return f"{self._folder}/{layer}.tar-split.gz"

    def _records(self) -> list[dict[str, Any]]:
        return read_own_records(self._file, _is_record)

    def _has_folder(self, layer: str, parent: str) -> bool:
        """Return whether a layer has its folder, with all that the tools look for."""
        folder = f"{self._overlay}/{layer}"
        try:
            with open(f"{folder}/link") as file:  # noqa: PTH123 - for every layer in every build
                link = file.read()
        except FileNotFoundError:
            return False
        places = (f"{folder}/diff", f"{self._overlay}/l/{link}", self._tar_split(layer))
        return all(map(os.path.lexists, places if not parent else (*places, f"{folder}/lower")))

    def add(self, diff_ids: Sequence[DiffId]) -> None:
        """Add what is missing of a chain, lowest first. Raises LostError if a tree is missing."""
        ids = chain_ids(diff_ids)
        known = {record["id"] for record in self._records()}
        if known.issuperset(ids) and all(map(self._has_folder, ids, ("", *ids))):
            return
        with storage_locked(self._lock):
            missing = [diff_id.short for diff_id in diff_ids if not self._trees.has(diff_id)]
            if missing:
                raise LostError(f"the image store has no layer {', '.join(missing)}", hint="build again")
            records = self._records()
            known = {record["id"] for record in records}
            lower: list[str] = []
            for parent, layer, diff_id in zip(("", *ids), ids, diff_ids, strict=False):
                if layer not in known or not self._has_folder(layer, parent):
                    self._make(layer, diff_id, lower)
                if layer not in known:
                    records.append(self._record(layer, parent, diff_id))
                lower.insert(0, f"l/{(self._overlay / layer / 'link').read_text()}")
            write_records(self._file, records)

    def remake(self) -> None:
        """Make the folders of all layers again, after the store was moved or the machine has crashed."""
        with storage_locked(self._lock):
            layers = self.all()
            for layer, stored in layers.items():
                below = list(find_below(layers, [stored.parent]))
                self._make(layer, stored.diff_id, [f"l/{self._short_name(under)}" for under in below])

    def prune(self, tops: Iterable[str], doomed: Iterable[DiffId]) -> tuple[DiffId, ...]:
        """Remove the layers that are not below one of ``tops``, and ``doomed`` trees that no other layer has.

        Returns the trees that were removed.
        """
        with storage_locked(self._lock):
            records = self._records()
            kept = find_below({record["id"]: _layer(record) for record in records}, tops)
            gone = [record["id"] for record in records if record["id"] not in kept]
            if gone:
                write_records(self._file, [record for record in records if record["id"] in kept])
            for layer in gone:
                self._remove(layer)
            used = {layer.diff_id for layer in kept.values()}
            removed = tuple(diff_id for diff_id in doomed if diff_id not in used)
            self._trees.remove(removed)
        return removed

    def _remove(self, layer: str) -> None:
        folder = self._overlay / layer
        with suppress(FileNotFoundError):
            (self._overlay / "l" / (folder / "link").read_text()).unlink(missing_ok=True)
        Path(self._tar_split(layer)).unlink(missing_ok=True)
        remove_folder(folder)

    def _make(self, layer: str, diff_id: DiffId, lower: Sequence[str]) -> None:
        """Make a layer's folder: nobody reads it before its record is there."""
        folder = self._overlay / layer
        folder.mkdir(mode=0o700, exist_ok=True)
        _link(folder / "diff", str(self._trees.path(diff_id)))  # podman refuses to read tars through a relative link
        tar_split = os.path.relpath(self._trees.tar_split_path(diff_id), self._folder)
        _link(Path(self._tar_split(layer)), tar_split)
        (folder / "link").write_text(self._short_name(layer))
        if lower:
            (folder / "lower").write_text(":".join(lower))

    def _short_name(self, layer: str) -> str:
        """Return a free name in ``overlay/l``, which leads to the layer: all names of a chain share a page."""
        target = f"../{layer}/diff"
        for length in range(SHORTEST_LINK, 53):
            name = link_name(layer, length)
            path = self._overlay / "l" / name
            try:
                path.symlink_to(target)
            except FileExistsError:
                if os.readlink(path) != target:  # noqa: PTH115 - as it was written
                    continue
            return name
        raise AssertionError(layer)  # the whole id is in the longest

    def _record(self, layer: str, parent: str, diff_id: DiffId) -> dict[str, Any]:
        facts = self._trees.facts(diff_id)
        return {
            "id": layer,
            **({"parent": parent} if parent else {}),
            "created": EPOCH,
            "compressed-diff-digest": str(diff_id),
            "compressed-size": facts.unpacked,
            "diff-digest": str(diff_id),
            "diff-size": facts.unpacked,
            "uidset": list(facts.uids),
            "gidset": list(facts.gids),
        }


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)  # of a process that died before the record was written
    path.symlink_to(target)


def _is_record(record: Mapping[str, Any]) -> bool:
    known = (record.get("id"), record.get("diff-digest"), record.get("parent", ""))
    return all(isinstance(value, str) for value in known) and bool(DiffId.parse(record["diff-digest"]))


def _layer(record: Mapping[str, Any]) -> StoreLayer:
    return StoreLayer(parent=record.get("parent", ""), diff_id=DiffId.parse(record["diff-digest"]))
