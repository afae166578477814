"""What a build made, into the shared cache that it may write to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from buildkit.build.context import Shop
from buildkit.build.native_check import are_natives_unread, known_natives, tell_natives
from buildkit.build.planner import Planner
from buildkit.plan.plan import Plan
from buildkit.plan.spec import PackWheels, Spec
from buildkit.remote.cache_record import Entry, Nonsense
from buildkit.tasks.concurrent import beside
from buildkit.tasks.scheduler import Lane, Outcome, Task, run_tasks

_UPLOADS = 4


@contextmanager
def publishing(planner: Planner, plan: Plan) -> Iterator[None]:
    """Share an image's layers, and what is needed to build them; beside the block, say that it is the stage's image.

    A cache that cannot be written to is said, and changes nothing. Raises DamagedError for blobs that are not what they
    are named; they are removed.
    """
    with planner.shop.meter.phase("share"):
        shared = _share_layers(planner, plan)
    with beside(lambda: _list(planner.shop, plan.composition.stage.name, shared)):
        yield


def _share_layers(planner: Planner, plan: Plan) -> list[Entry]:
    """Share what is not; returns what is shared by then."""
    shop, stage = planner.shop, plan.composition.stage.name
    works = [spec.work for spec in plan.composition.layers if isinstance(spec.work, PackWheels)]
    told = {spec.key: spec for spec in (*plan.composition.specs, *planner.tools(works))}
    known = shop.sharing.known(stage, told)
    unshared = {key: spec for key, spec in (told | shop.fresh).items() if key not in known}
    shop.made.update(planner.lookup(key for key in unshared if key not in shop.made))
    if shop.sharing.writes:
        tasks = {key.hex: _share(shop, unshared[key]) for key in planner.lookup(unshared)}
        run_tasks(tasks, {Lane.UP: _UPLOADS}, shop.say, shop.stop, shop.meter)
        known = shop.sharing.known(stage, told)
    return [known[key] for key in told if key in known]


def _list(shop: Shop, stage: str, shared: Sequence[Entry]) -> None:
    with shop.meter.phase("share"):
        natives = known_natives(shop, [blob.digest for entry in shared for blob in entry.made.blobs])
        shop.sharing.publish_roster(stage, shared, natives, shop.blobs)


def share_early(shop: Shop, building: Mapping[str, Spec]) -> Iterator[tuple[str, Task]]:
    """Share each layer that is built, by its task, when it is there; but not one of which not all is known by then."""
    for layer, spec in building.items():
        unread = partial(are_natives_unread, shop, spec.key)
        yield f"share:{spec.key.hex}", replace(_share(shop, spec), needs=(layer,), needless=unread)


def _share(shop: Shop, spec: Spec) -> Task:
    def action() -> Outcome:
        entry = _describe(shop, spec)
        went = shop.sharing.publish(entry, shop.ledger.contents(entry.key), shop.blobs) if entry else None
        if entry is None or went is None:
            return Outcome(note="not shared")
        size = sum(blob.size for blob in entry.made.blobs if blob.digest in went)
        shop.count(pushed=size)
        return Outcome(size=size)

    return Task(name=spec.name, phase="share", lane=Lane.UP, action=action)


def _describe(shop: Shop, spec: Spec) -> Entry | None:
    """The entry of a layer, or None where nobody would believe it."""
    made = shop.made[spec.key]
    (claims,) = shop.ledger.claims([spec.key]).values()
    natives = tell_natives(shop, made)
    try:
        return Entry(key=spec.key, kind=spec.kind, name=spec.name, made=made, claims=claims, natives=natives)
    except Nonsense:
        return None
