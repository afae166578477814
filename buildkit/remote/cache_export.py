"""What a build made, into the shared cache that it may write to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from buildkit.build.context import BuildContext
from buildkit.build.native_check import are_natives_unread, known_natives, tell_natives
from buildkit.build.planner import Planner
from buildkit.plan.plan import Plan
from buildkit.plan.spec import PackWheels, Spec
from buildkit.remote.cache_record import CacheRecord, MalformedRecordError
from buildkit.tasks.concurrent import run_concurrently
from buildkit.tasks.scheduler import Lane, Outcome, Task, run_tasks

_UPLOADS = 4


@contextmanager
def publishing(planner: Planner, plan: Plan, check: Future[None]) -> Iterator[None]:
    """Share an image's layers, and what is needed to build them; beside the block, say that it is the stage's image.

    ``check`` is the running check of native files, whose facts are waited for. A cache that cannot be written to is
    said, and changes nothing. Raises DamagedError for blobs that are not what they are named; they are removed.
    """
    with planner.context.meter.phase("share"):
        shared = _share_layers(planner, plan, check)
    with run_concurrently(lambda: _list(planner.context, plan.composition.stage.name, shared, check)):
        yield


def _share_layers(planner: Planner, plan: Plan, check: Future[None]) -> list[CacheRecord]:
    """Share what is not; returns what is shared by then."""
    context, stage = planner.context, plan.composition.stage.name
    works = [spec.work for spec in plan.composition.layers if isinstance(spec.work, PackWheels)]
    told = {spec.key: spec for spec in (*plan.composition.specs, *planner.tools(works))}
    known = context.remote_cache.known(stage, told)
    unshared = {key: spec for key, spec in (told | context.state.built_now).items() if key not in known}
    context.state.learn(planner.lookup(key for key in unshared if not context.state.is_known(key)))
    if context.remote_cache.writes:
        tasks = {key.hex: _share(context, unshared[key], check) for key in planner.lookup(unshared)}
        run_tasks(tasks, {Lane.UP: _UPLOADS}, context.emit, context.stop, context.meter)
        known = context.remote_cache.known(stage, told)
    return [known[key] for key in told if key in known]


def _list(context: BuildContext, stage: str, shared: Sequence[CacheRecord], check: Future[None]) -> None:
    with context.meter.phase("share"):
        natives = known_natives(context, [blob.digest for entry in shared for blob in entry.made.blobs], check)
        context.remote_cache.publish_roster(stage, shared, natives, context.blobs)


def share_early(context: BuildContext, building: Mapping[str, Spec]) -> Iterator[tuple[str, Task]]:
    """Share each layer that is built, by its task, when it is there; but not one of which not all is known by then."""
    for layer, spec in building.items():
        unread = partial(are_natives_unread, context, spec.key)
        yield f"share:{spec.key.hex}", replace(_share(context, spec), needs=(layer,), needless=unread)


def _share(context: BuildContext, spec: Spec, check: Future[None] | None = None) -> Task:
    def action() -> Outcome:
        entry = _describe(context, spec, check)
        went = context.remote_cache.publish(entry, context.ledger.contents(entry.key), context.blobs) if entry else None
        if entry is None or went is None:
            return Outcome(note="not shared")
        size = sum(blob.size for blob in entry.made.blobs if blob.digest in went)
        context.tally.add(pushed=size)
        return Outcome(size=size)

    return Task(name=spec.name, phase="share", lane=Lane.UP, action=action)


def _describe(context: BuildContext, spec: Spec, check: Future[None] | None) -> CacheRecord | None:
    """The entry of a layer, or None where nobody would believe it."""
    made = context.state.results[spec.key]
    (claims,) = context.ledger.claims([spec.key]).values()
    natives = tell_natives(context, made, check)
    try:
        return CacheRecord(key=spec.key, kind=spec.kind, name=spec.name, made=made, claims=claims, natives=natives)
    except MalformedRecordError:
        return None
