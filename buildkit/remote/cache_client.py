"""The shared cache: any OCI registry, through skopeo. Entries are described in ``remote/cache_record.py``.

What it says is believed as far as the registry is: whoever may write there says what a key came to. Every blob is
held against its digest, its diff_id and its sizes when it is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.digest import Digest, Key
from buildkit.errors import BuildError, DamagedError, MismatchError
from buildkit.oci.reference import Ref
from buildkit.remote.cache_record import (
    EMPTY,
    CacheRecord,
    MalformedRecordError,
    Told,
    decode_listing,
    decode_natives,
    decode_records,
    encode_listing,
    encode_record,
    encode_stage_index,
    find_told,
    record_tag,
    stage_index_tag,
)
from buildkit.store.blobs import Blobs
from buildkit.store.ingest import take_blob
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import write_layout

Refused = Callable[[str], None]
Contents = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came: bytes, and the paths with their hashes, None where they are not told."""

    size: int
    contents: Contents | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageIndex:
    """The layers of a stage's image, and the blob that tells what their native files need, if there is one."""

    entries: Mapping[Key, CacheRecord] = field(default_factory=dict)
    told: Told | None = None


class CacheClient:
    """Entries of one repository. Methods raise RegistryError, BuildError for nonsense, or Interrupted."""

    def __init__(self, repository: Ref, registries: RegistryClient) -> None:
        self.repository = repository
        self._registries = registries

    def roster(self, stage: str, refused: Refused) -> StageIndex:
        """The layers of the stage's image that was shared last: one request. ``refused`` is told of nonsense."""
        ref = self.repository.tagged(stage_index_tag(stage))
        manifest = self._registries.manifest(ref)
        entries = _decode(ref, manifest, refused)
        return StageIndex(entries=entries, told=find_told(manifest) if manifest and entries else None)

    def natives(self, stage: str, blobs: Blobs) -> dict[Digest, bytes]:
        """What the stage's roster, as it is now, tells of native files by blob: one request."""
        ref = self.repository.tagged(stage_index_tag(stage))
        with blobs.working_folder() as folder:
            self._registries.fetch(ref, folder)  # skopeo holds the blob against its digest
            try:
                return _read_natives(folder)
            except MalformedRecordError as error:
                raise BuildError(f"{ref}: {error}") from error

    def find(self, keys: Iterable[Key], refused: Refused) -> dict[Key, CacheRecord]:
        """What is shared of keys: one request each, several at once. ``refused`` is told of nonsense."""
        refs = {self.repository.tagged(record_tag(key)): key for key in keys}
        found: dict[Key, CacheRecord] = {}
        for ref, manifest in self._registries.manifests(refs).items():
            entries = _decode(ref, manifest, refused)
            if entries.keys() - {refs[ref]}:
                refused(f"{ref}: it is the entry of another key")
            else:
                found |= entries
        return found

    def listing(self, key: Key) -> list[tuple[str, str]]:
        """The paths that a layer owns, with their content hashes."""
        ref = self.repository.tagged(record_tag(key))
        try:
            return decode_listing(self._registries.config(ref))
        except MalformedRecordError as error:
            raise BuildError(f"{ref}: {error}") from error

    def fetch(self, entry: CacheRecord, blobs: Blobs) -> Fetched:
        """Bring an entry's blobs into the cache. Raises MismatchError for other bytes too."""
        ref = self.repository.tagged(record_tag(entry.key))
        with blobs.working_folder() as folder:
            self._registries.fetch(ref, folder)
            for blob in entry.made.blobs:
                path = folder / blob.digest.hex
                if not path.is_file():
                    raise BuildError(f"{ref}: it has no layer {blob.digest.short}")
                if take_blob(path, blob.digest, blob.diff_id, blobs, most=blob.unpacked) != blob:
                    raise MismatchError(f"{ref}: layer {blob.digest.short} is of another size or compression")
            contents = _read_listing(folder)
        return Fetched(size=sum(blob.size for blob in entry.made.blobs), contents=contents)

    def publish(self, entry: CacheRecord, contents: Contents | None, blobs: Blobs) -> tuple[Digest, ...]:
        """Share what a key came to; returns the blobs that the registry had not.

        Raises Nonsense for what would not be believed, and DamagedError for blobs that are not what they are named:
        they are removed.
        """
        config = encode_listing(contents)
        manifest = encode_record(entry, config)
        with blobs.working_folder() as folder:
            for digest in dict.fromkeys(blob.digest for blob in entry.made.blobs):
                (folder / digest.hex).symlink_to(blobs.path(digest))
            try:
                return self._push(folder, manifest, config, record_tag(entry.key))
            except DamagedError as error:
                blobs.drop_damaged(map(Digest, error.digests))
                raise

    def publish_roster(
        self, stage: str, entries: Iterable[CacheRecord], natives: bytes | Told | None, blobs: Blobs
    ) -> None:
        """Say of what the stage's image consists now, and what its native files need: a blob, or the name of one.

        Raises Nonsense if that is too much, and BlobsMissingError if the registry has no blob of that name.
        """
        told = Told(Digest.of(natives), len(natives)) if isinstance(natives, bytes) else natives
        manifest = encode_stage_index(entries, told)
        with blobs.working_folder() as folder:
            if told and isinstance(natives, bytes):
                (folder / told.digest.hex).write_bytes(natives)
            self._push(folder, manifest, EMPTY, stage_index_tag(stage))

    def _push(self, folder: Path, manifest: bytes, config: bytes, tag: str) -> tuple[Digest, ...]:
        write_layout(folder, manifest, config)
        return self._registries.push(folder, self.repository.tagged(tag))


def _decode(ref: Ref, manifest: bytes | None, refused: Refused) -> dict[Key, CacheRecord]:
    try:
        return {} if manifest is None else decode_records(manifest)
    except MalformedRecordError as error:
        refused(f"{ref}: {error}")
        return {}


def _read_natives(folder: Path) -> dict[Digest, bytes]:
    """What a roster that was fetched tells of native files; raises Nonsense."""
    manifest = (folder / "manifest.json").read_bytes()
    entries, told = decode_records(manifest), find_told(manifest)
    if told is None:
        return {}
    path = folder / told.digest.hex
    if path.stat().st_size != told.size:
        raise MalformedRecordError("what it tells of native files is of another size")
    return decode_natives(path.read_bytes(), [blob.digest for one in entries.values() for blob in one.made.blobs])


def _read_listing(folder: Path) -> Contents | None:
    """The listing of an entry that was fetched."""
    try:
        digest = Digest.parse(json.loads((folder / "manifest.json").read_bytes())["config"]["digest"])
        return decode_listing((folder / digest.hex).read_bytes())
    except (KeyError, TypeError, ValueError, RecursionError, OSError):  # ValueError: or nonsense
        return None
