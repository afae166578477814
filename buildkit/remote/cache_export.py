"""Publish the layers of a build to the remote cache that it may write to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from buildkit.digest import Digest, Key
from buildkit.events import Emit
from buildkit.hostile_json import MalformedError
from buildkit.oci.blob import LayerResult
from buildkit.plan.spec import Spec
from buildkit.remote.cache_record import MAX_NATIVE_FACTS, BuilderScan, CacheRecord
from buildkit.remote.layer_stream import LayerStreams
from buildkit.remote.remote_cache import RemoteCache
from buildkit.store.layer_bytes import LayerBytes
from buildkit.store.layer_listings import find_listing
from buildkit.store.ledger import Ledger
from buildkit.tasks.concurrent import run_concurrently
from buildkit.tasks.phase_meter import PhaseMeter
from buildkit.tasks.scheduler import Lane, Outcome, Task, run_tasks
from buildkit.tasks.task_id import TaskId, TaskKind

_UPLOADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheExport:
    """Publishes the layers of one build.

    ``results`` is a live view of the layers that the build knows; ``find_present`` returns those of keys whose
    layers are on this host, and ``make_blobs`` compresses those of them that the cache has no blob of.
    ``find_native_facts`` returns the encoded native facts of blobs, and waits for those that are being read;
    ``find_scans`` returns the scans of a layer's model files that this host has made.
    ``streams`` have uploaded layers while they were built. ``count_pushed`` is called with the bytes of each upload.
    """

    cache: RemoteCache
    layers: LayerBytes
    ledger: Ledger
    results: Mapping[Key, LayerResult]
    find_present: Callable[[Iterable[Key]], Mapping[Key, LayerResult]]
    find_native_facts: Callable[[Sequence[Digest]], Mapping[Digest, bytes]]
    find_scans: Callable[[Spec], tuple[BuilderScan, ...]]
    streams: LayerStreams
    count_pushed: Callable[[int], None]
    make_blobs: Callable[[Iterable[Spec]], None]
    emit: Emit
    stop: threading.Event
    meter: PhaseMeter

    @contextmanager
    def publishing(self, stage: str, specs: Iterable[Spec], built: Iterable[Spec]) -> Iterator[None]:
        """Publish layers, then update the stage's index while the block runs.

        ``specs`` are the layers of the stage's image and of what compiles for it: the index lists them. ``built`` are
        all layers that this run built. A cache that cannot be written to is reported and changes nothing. Raises
        DamagedError for blobs whose bytes do not match their digest; they are removed.
        """
        listed = {spec.key: spec for spec in specs}
        with self.meter.phase("share"):
            published = self._publish_layers(stage, listed, {spec.key: spec for spec in built})
        with run_concurrently(lambda: self._publish_index(stage, published)):
            yield

    def early_tasks(self, building: Mapping[TaskId, Spec]) -> Iterator[tuple[TaskId, Task]]:
        """Yield a task that publishes each layer once it is built, unless its native files are not read by then.

        ``building`` maps the ids of the tasks that build layers to their specs.
        """
        for layer_task, spec in building.items():
            needless = partial(self._lacks_native_facts, spec.key)
            yield (
                TaskId.of_key(TaskKind.SHARE, spec.key),
                replace(self._task(spec, self.results), needs=(layer_task,), is_needless=needless),
            )

    def _publish_layers(self, stage: str, listed: Mapping[Key, Spec], built: Mapping[Key, Spec]) -> list[CacheRecord]:
        """Publish what the cache lacks; return the records of ``listed`` that it then has."""
        known = self.cache.find_published(stage, listed)
        missing = {key: spec for key, spec in {**listed, **built}.items() if key not in known}
        if self.cache.writes:
            self.make_blobs(missing.values())
            present = self.find_present(missing)
            results = {**present, **self.results}
            tasks = {TaskId.of_key(TaskKind.SHARE, key): self._task(missing[key], results) for key in present}
            run_tasks(tasks, {Lane.UP: _UPLOADS}, self.emit, self.stop, self.meter)
            known = self.cache.find_published(stage, listed)
        return [self._rescanned(known[key], spec) for key, spec in listed.items() if key in known]

    def _rescanned(self, record: CacheRecord, spec: Spec) -> CacheRecord:
        """Return a record with the scans of this host, if it has made any: those from before may be by older rules."""
        return replace(record, scans=self.find_scans(spec) or record.scans)

    def _publish_index(self, stage: str, records: Sequence[CacheRecord]) -> None:
        with self.meter.phase("share"):
            facts = self.find_native_facts([blob.digest for record in records for blob in record.result.blobs])
            self.cache.publish_stage_index(stage, records, facts, self.layers.blobs)

    def _task(self, spec: Spec, results: Mapping[Key, LayerResult]) -> Task:
        def action() -> Outcome:
            streamed = self.streams.finish(spec.key)
            record = self._describe(spec, results[spec.key])
            uploaded = self._publish(record) if record else None
            if record is None or uploaded is None:
                return Outcome(note="not shared")
            size = sum(blob.size for blob in record.result.blobs if streamed or blob.digest in uploaded)
            self.count_pushed(size)
            return Outcome(size=size)

        return Task(name=spec.name, phase="share", lane=Lane.UP, action=action)

    def _publish(self, record: CacheRecord) -> tuple[Digest, ...] | None:
        return self.cache.publish(record, self.ledger.layers.contents(record.key), self.layers.blobs)

    def _describe(self, spec: Spec, result: LayerResult) -> CacheRecord | None:
        """Return the record of a layer; None where a blob or its paths are not there, or no reader would accept it."""
        if not all(map(self.layers.has_blob, result.blobs)):
            return None
        find_listing(spec.key, self.ledger, self.layers, of_root=spec.is_of_root)  # the prefixes follow from it
        prefixes = self.ledger.layers.path_prefixes([spec.key]).get(spec.key)
        if prefixes is None:
            return None
        try:
            return CacheRecord(
                key=spec.key,
                kind=spec.kind,
                name=spec.name,
                result=result,
                path_prefixes=prefixes,
                native_facts=self._native_facts(result),
                scans=self.find_scans(spec),
            )
        except MalformedError:
            return None

    def _native_facts(self, result: LayerResult) -> tuple[bytes, ...]:
        """Return the encoded native facts of each blob; no items if all blobs have none, or if they are too large."""
        known = self.find_native_facts([blob.digest for blob in result.blobs])
        facts = tuple(known.get(blob.digest, b"") for blob in result.blobs)
        return facts if any(facts) and sum(map(len, facts)) <= MAX_NATIVE_FACTS else ()

    def _lacks_native_facts(self, key: Key) -> bool:
        """Return whether native files of a built layer are still unread; packing a layer here reads them."""
        digests = {blob.digest for blob in self.results[key].blobs}
        return not self.ledger.natives.find(digests).keys() >= digests
