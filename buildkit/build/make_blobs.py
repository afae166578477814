"""Compresses layers that only the image store has, once each: a registry takes nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from buildkit.build.context import BuildContext
from buildkit.digest import Key
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.spec import Spec
from buildkit.tasks.scheduler import Lane, Outcome, Task, run_tasks
from buildkit.tasks.task_id import TaskId, TaskKind
from buildkit.tools.usage import ResourceUsage, WorkCost

_AT_ONCE = 2


def make_blobs(context: BuildContext, specs: Iterable[Spec]) -> None:
    """Make the blobs of layers that the image store has and the cache lacks, and record them.

    The state knows their results, or else the ledger does; layers that are not on this host are left alone. Raises
    what `LayerBytes.make_blob` raises, and Interrupted.
    """
    wanted = {spec.key: spec for spec in specs}
    recorded = context.ledger.layers.find(key for key in wanted if key not in context.state.results)
    results = {**recorded, **{key: context.state.results[key] for key in wanted if key in context.state.results}}
    lacking = {key: result for key, result in results.items() if _lacks_blob(context, result)}
    tasks = {TaskId.of_key(TaskKind.COMPRESS, key): _task(context, wanted[key], lacking[key]) for key in lacking}
    if tasks:
        run_tasks(tasks, {Lane.CPU: _AT_ONCE}, context.emit, context.stop, context.meter)


def _lacks_blob(context: BuildContext, result: LayerResult) -> bool:
    layers = context.layers
    return all(map(layers.has, result.blobs)) and not all(map(layers.has_blob, result.blobs))


def _task(context: BuildContext, spec: Spec, result: LayerResult) -> Task:
    def action() -> Outcome:
        with context.blobs.building(spec.key, context.stop.is_set):
            known = context.ledger.layers.find([spec.key]).get(spec.key, result)  # another process may have made it
            made = replace(known, blobs=tuple(_make(context, spec.name, blob) for blob in known.blobs))
            _record(context, spec.key, known, made)
        return Outcome(size=sum(blob.size for blob in made.blobs))

    total = sum(blob.unpacked for blob in result.blobs)
    return Task(name=spec.name, phase="compress", lane=Lane.CPU, action=action, total=total)


def _make(context: BuildContext, name: str, blob: Blob) -> Blob:
    if context.layers.has_blob(blob):
        return blob
    made, seconds = context.layers.make_blob(blob, context.progress(name))
    usage = ResourceUsage(read=made.unpacked, written=made.size)
    context.meter.add("compress", WorkCost(seconds=seconds, usage=usage))
    return made


def _record(context: BuildContext, key: Key, before: LayerResult, made: LayerResult) -> None:
    facts = context.ledger.natives.find(blob.digest for blob in before.blobs)
    for old, new in zip(before.blobs, made.blobs, strict=True):
        if old.digest in facts and old.digest != new.digest:
            context.ledger.natives.add(new.digest, facts[old.digest])
    context.ledger.layers.replace_blobs(key, made)
    context.state.learn({key: made})
