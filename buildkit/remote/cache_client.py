"""Raw access to one remote cache: any OCI registry, through skopeo.

The registry is believed as far as the people who may write to it are: a record claims which layer belongs to
a key. Every blob is checked against its digest, its diff_id and its sizes when it is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.digest import Digest, Key
from buildkit.errors import BuildError, DamagedError, MismatchError
from buildkit.hostile_json import MalformedError
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.toc import find_toc
from buildkit.oci.manifest import parse_manifest
from buildkit.oci.reference import Ref
from buildkit.remote.cache_manifest import EMPTY
from buildkit.remote.cache_record import CacheRecord, decode_record, encode_record, record_tag
from buildkit.remote.listing import decode_listing, encode_listing
from buildkit.remote.stage_index import (
    FactsBlob,
    StageIndex,
    decode_stage_facts,
    decode_stage_index,
    encode_stage_index,
    stage_index_tag,
)
from buildkit.store.blobs import Blobs
from buildkit.store.ingest import OpenTree, ingest_blob
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import write_layout

ReportRefused = Callable[[str], None]
Contents = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedLayer:
    """The bytes that were fetched, and the layer's paths with their contents; None where the cache lacks those."""

    size: int
    contents: Contents | None


class CacheClient:
    """Reads and writes the records and stage indexes of one repository.

    Every failure is raised: RegistryError, BuildError for a malformed document, or Interrupted. `RemoteCache` wraps
    clients for a build, which must not fail because a cache does. ``arch`` is the `Target.lock_arch` of the images
    whose indexes these are; records are shared by all, for a key says what depends on the processor. ``find_mount``
    gives the path of another repository of the registry that may have a blob, or "".
    """

    def __init__(
        self,
        repository: Ref,
        registries: RegistryClient,
        arch: str = "",
        find_mount: Callable[[Digest], str] = lambda _digest: "",
    ) -> None:
        self.repository = repository
        self._registries = registries
        self._arch = arch
        self._details = PushDetails(mounts=find_mount)

    def stage_index(self, stage: str, report_refused: ReportRefused) -> StageIndex:
        """Return the index of the stage's image that was published last, by one request.

        An index that is malformed counts as empty; ``report_refused`` is called with the reason.
        """
        ref = self.repository.tagged(stage_index_tag(stage, self._arch))
        manifest = self._registries.manifest(ref)
        try:
            return StageIndex() if manifest is None else decode_stage_index(manifest)
        except MalformedError as error:
            report_refused(f"{ref}: {error}")
            return StageIndex()

    def native_facts(self, stage: str, blobs: Blobs) -> dict[Digest, bytes]:
        """Return the native facts by blob of the stage's index as it is now, by one request."""
        ref = self.repository.tagged(stage_index_tag(stage, self._arch))
        with blobs.working_folder() as folder:
            self._registries.fetch(ref, folder)  # skopeo checks the blob against its digest
            try:
                return _read_stage_facts(folder)
            except MalformedError as error:
                raise BuildError(f"{ref}: {error}") from error

    def find(self, keys: Iterable[Key], report_refused: ReportRefused) -> dict[Key, CacheRecord]:
        """Return the records of keys, by one request each, several at once.

        A record that is malformed counts as missing; ``report_refused`` is called with the reason.
        """
        refs = {self.repository.tagged(record_tag(key)): key for key in keys}
        found: dict[Key, CacheRecord] = {}
        for ref, manifest in self._registries.manifests(refs).items():
            if manifest is None:
                continue
            try:
                record = decode_record(manifest)
            except MalformedError as error:
                report_refused(f"{ref}: {error}")
                continue
            if record.key == refs[ref]:
                found[record.key] = record
            else:
                report_refused(f"{ref}: it is the record of another key")
        return found

    def listing(self, key: Key) -> list[tuple[str, str]]:
        """Return the listing of a layer."""
        ref = self.repository.tagged(record_tag(key))
        try:
            return decode_listing(self._registries.config(ref))
        except MalformedError as error:
            raise BuildError(f"{ref}: {error}") from error

    def fetch(self, record: CacheRecord, blobs: Blobs, open_tree: OpenTree = nullcontext) -> FetchedLayer:
        """Store a record's blobs in the local cache; also raises MismatchError for bytes that differ from it."""
        ref = self.repository.tagged(record_tag(record.key))
        with blobs.working_folder() as folder:
            self._registries.fetch(ref, folder)
            for blob in record.result.blobs:
                path = folder / blob.digest.hex
                if not path.is_file():
                    raise BuildError(f"{ref}: it has no layer {blob.digest.short}")
                limit = blob.unpacked
                taken = ingest_blob(path, blob.digest, blob.diff_id, blobs, max_unpacked=limit, open_tree=open_tree)
                if blob.compression is Compression.CHUNKED:
                    taken = replace(taken, compression=blob.compression, toc=find_toc(blobs.path(blob.digest)))
                if taken != blob:
                    raise MismatchError(f"{ref}: layer {blob.digest.short} is of another size or compression")
            contents = _read_listing(folder)
        return FetchedLayer(size=sum(blob.size for blob in record.result.blobs), contents=contents)

    def publish(self, record: CacheRecord, contents: Contents | None, blobs: Blobs) -> tuple[Digest, ...]:
        """Publish a layer; return the digests of the blobs that the registry lacked.

        Raises MalformedError for a record that no reader would accept, and DamagedError for blobs whose bytes do not
        match their digest: they are removed.
        """
        listing = encode_listing(contents)
        manifest = encode_record(record, listing)
        with blobs.working_folder() as folder:
            for digest in dict.fromkeys(blob.digest for blob in record.result.blobs):
                (folder / digest.hex).symlink_to(blobs.path(digest))
            try:
                return self._push(folder, manifest, listing, record_tag(record.key))
            except DamagedError as error:
                blobs.drop_damaged(map(Digest, error.digests))
                raise

    def publish_stage_index(
        self, stage: str, records: Iterable[CacheRecord], facts: bytes | FactsBlob | None, blobs: Blobs
    ) -> None:
        """Replace the index of a stage; ``facts`` is the blob of native facts, or the name of one in the registry.

        Raises MalformedError if the index is too large, and BlobsMissingError if the registry has no blob of that name.
        """
        named = FactsBlob(Digest.of(facts), len(facts)) if isinstance(facts, bytes) else facts
        manifest = encode_stage_index(records, named)
        with blobs.working_folder() as folder:
            if named and isinstance(facts, bytes):
                (folder / named.digest.hex).write_bytes(facts)
            self._push(folder, manifest, EMPTY, stage_index_tag(stage, self._arch))

    def _push(self, folder: Path, manifest: bytes, config: bytes, tag: str) -> tuple[Digest, ...]:
        write_layout(folder, manifest, config)
        return self._registries.push(folder, self.repository.tagged(tag), self._details)


def _read_stage_facts(folder: Path) -> dict[Digest, bytes]:
    """Return the native facts of a stage index that was fetched; raises MalformedError."""
    index = decode_stage_index((folder / "manifest.json").read_bytes())
    if index.facts is None:
        return {}
    path = folder / index.facts.digest.hex
    if path.stat().st_size != index.facts.size:
        raise MalformedError("the native facts are of another size")
    digests = [blob.digest for record in index.records.values() for blob in record.result.blobs]
    return decode_stage_facts(path.read_bytes(), digests)


def _read_listing(folder: Path) -> Contents | None:
    """Return the listing of a record that was fetched; None if it is not there, or malformed."""
    try:
        manifest = parse_manifest((folder / "manifest.json").read_bytes())
        return decode_listing((folder / manifest.config.hex).read_bytes())
    except (MalformedError, OSError):
        return None
