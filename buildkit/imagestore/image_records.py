"""The images of an image store: ``overlay-images/images.json``, with manifest and config of each beside it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError
from buildkit.imagestore.layer_chain import chain_ids
from buildkit.imagestore.storage_lock import read_own_records, storage_locked, write_records
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.image import Image
from buildkit.store.file_locks import remove_folder

_PLAIN = re.compile(r"[.a-z0-9]+")
_MANIFEST = "manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreImage:
    """An image of the store: its id (the digest of its config), names, manifest, and layers, lowest first."""

    id: str
    names: tuple[str, ...]
    manifest: bytes
    diff_ids: tuple[DiffId, ...]
    top_layer: str


class ImageRecords:
    """The records of images."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "images.json"
        self._lock = folder / "images.lock"

    def _records(self) -> list[dict[str, Any]]:
        return read_own_records(self._file, _is_record)

    def all(self) -> tuple[StoreImage, ...]:
        """Return every image. Raises BuildError if one is damaged."""
        return tuple(map(self._image, self._records()))

    def find(self, name: str) -> StoreImage | None:
        """Return the image of that name or id."""
        found = next((r for r in self._records() if name == r["id"] or name in r.get("names", ())), None)
        return self._image(found) if found else None

    def has(self, image: Image, names: tuple[str, ...]) -> bool:
        """Return whether an image has these names, and its files are whole."""
        found, manifest = Digest.of(image.config_blob()).hex, image.docker_manifest()
        return self._has(self._records(), found, manifest, names)

    def put(self, image: Image, top_layer: str, names: tuple[str, ...]) -> str:
        """Add an image, and move names to it; nothing is written if it has them already. Return its id."""
        config, manifest = image.config_blob(), image.docker_manifest()
        found = Digest.of(config).hex
        files = {
            f"sha256:{found}": config,
            f"manifest-{Digest.of(manifest)}": manifest,
            _MANIFEST: manifest,
        }
        if self._has(self._records(), found, manifest, names):
            return found
        with storage_locked(self._lock):
            records = [_without_names(record, names) for record in self._records()]
            before = next((record for record in records if record["id"] == found), {})
            self._write_files(found, files)
            record = _record(found, image.created, top_layer, files)
            record["names"] = [*before.get("names", ()), *names]
            write_records(self._file, [*(r for r in records if r is not before), record])
        return found

    def remove(self, images: Collection[str]) -> None:
        """Remove images by their ids."""
        if not images:
            return
        with storage_locked(self._lock):
            records = self._records()
            kept = [record for record in records if record["id"] not in images]
            if len(kept) < len(records):
                write_records(self._file, kept)
            for image in images:
                remove_folder(self._folder / image)

    def drop_damaged(self, find_layers: Callable[[], Collection[str]]) -> tuple[str, ...]:
        """Remove images whose manifest or config is not what its digest says, or that have layers which are not found.

        Returns their names, or the id of one that has none.
        """
        records = self._records()
        layers = find_layers()  # after the images: each came after its layers
        damaged = [record for record in records if not self._is_whole(record, layers)]
        self.remove([record["id"] for record in damaged])
        return tuple(name for record in damaged for name in record.get("names") or (record["id"],))

    def _is_whole(self, record: Mapping[str, Any], layers: Collection[str]) -> bool:
        return self._has_files(record) and {*chain_ids(self._image(record).diff_ids)} <= {*layers}

    def _has_files(self, record: Mapping[str, Any]) -> bool:
        folder = self._folder / record["id"]
        try:
            config = (folder / _file_name(f"sha256:{record['id']}")).read_bytes()
            manifest = (folder / _MANIFEST).read_bytes()
        except FileNotFoundError:
            return False
        return (Digest.of(config).hex, str(Digest.of(manifest))) == (record["id"], record["digest"])

    def remove_names(self, names: Collection[str]) -> None:
        """Remove names; an image without one stays."""
        with storage_locked(self._lock):
            records = self._records()
            if any({*names} & {*record.get("names", ())} for record in records):
                write_records(self._file, [_without_names(record, tuple(names)) for record in records])

    def _has(self, records: list[dict[str, Any]], image: str, manifest: bytes, names: tuple[str, ...]) -> bool:
        digest = str(Digest.of(manifest))
        return any(
            record["id"] == image
            and record["digest"] == digest
            and {*names} <= {*record.get("names", ())}
            and self._has_files(record)
            for record in records
        )

    def _write_files(self, image: str, files: Mapping[str, bytes]) -> None:
        folder = self._folder / image
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, data in files.items():
            temporary = folder / ".new"
            temporary.write_bytes(data)
            temporary.replace(folder / _file_name(name))

    def _image(self, record: Mapping[str, Any]) -> StoreImage:
        folder = self._folder / record["id"]
        try:
            config = json.loads((folder / _file_name(f"sha256:{record['id']}")).read_bytes())
            return StoreImage(
                id=record["id"],
                names=tuple(record.get("names", ())),
                manifest=(folder / _MANIFEST).read_bytes(),
                diff_ids=tuple(map(DiffId.parse, config["rootfs"]["diff_ids"])),
                top_layer=record["layer"],
            )
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            name = next(iter(record.get("names", ())), record["id"])
            hint = "nox -s cache -- verify removes it from the image store; the next build of its stage delivers it"
            raise BuildError(f"{name} in the image store is damaged", hint=hint) from error


def _record(image: str, created: str, top_layer: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": image,
        "digest": str(Digest.of(files[_MANIFEST])),
        "layer": top_layer,
        "metadata": "{}",
        "big-data-names": list(files),
        "big-data-sizes": {name: len(data) for name, data in files.items()},
        "big-data-digests": {name: str(Digest.of(data)) for name, data in files.items()},
        "created": created,
    }


def _is_record(record: Mapping[str, Any]) -> bool:
    names = record.get("names", [])
    known = (record.get("id"), record.get("digest"), record.get("layer"), *(names if isinstance(names, list) else [0]))
    return all(isinstance(value, str) for value in known)


def _without_names(record: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {**record, "names": [name for name in record.get("names", ()) if name not in names]}


def _file_name(name: str) -> str:
    """Return the file of a named datum, as containers-storage calls it."""
    return name if _PLAIN.fullmatch(name) else "=" + base64.b64encode(name.encode()).decode()
