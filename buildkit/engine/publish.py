"""What a build made, into the shared cache that it may write to."""

from __future__ import annotations

from collections.abc import Iterable

from buildkit.engine.planning import Planner
from buildkit.engine.scheduler import Lane, Outcome, Task, run_tasks
from buildkit.engine.shop import Shop
from buildkit.oci.entry import Entry
from buildkit.plan.plan import Plan
from buildkit.plan.spec import Spec

_UPLOADS = 4


def publish(planner: Planner, plan: Plan) -> int:
    """Share the image's layers, and what was built to build them, then say that this is the stage's image.

    Returns the bytes that went up. A cache that cannot be written to is said, and changes nothing.
    """
    shop, stage = planner.shop, plan.composition.stage.name
    specs = {spec.key: spec for spec in plan.composition.specs} | shop.fresh
    unshared = set(shop.sharing.find_unshared(stage, specs))
    here = [spec for key, spec in specs.items() if key in unshared and planner.lookup([key])]
    tasks = {spec.key.hex: _share(shop, spec) for spec in here}
    before = shop.tally.pushed
    if tasks:
        run_tasks(tasks, {Lane.NET: _UPLOADS}, shop.say, shop.stop, shop.meter)
    if shop.sharing.writes:
        entries = _describe(shop, plan.composition.specs)
        shop.sharing.publish_roster(stage, entries, shop.blobs)
    return shop.tally.pushed - before


def _share(shop: Shop, spec: Spec) -> Task:
    def action() -> Outcome:
        (entry,) = _describe(shop, [spec])
        went = shop.sharing.publish(entry, shop.ledger.contents(spec.key) or (), shop.blobs)
        size = sum(blob.size for blob in entry.made.blobs if blob.digest in went)
        shop.count(pushed=size)
        return Outcome(size=size)

    return Task(name=spec.name, phase="share", lane=Lane.NET, action=action)


def _describe(shop: Shop, specs: Iterable[Spec]) -> list[Entry]:
    listed = list(specs)
    claims = shop.ledger.claims(spec.key for spec in listed)
    return [
        Entry(key=spec.key, kind=spec.kind, name=spec.name, made=shop.made[spec.key], claims=claims[spec.key])
        for spec in listed
    ]
