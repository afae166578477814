"""What a finished build writes into the ledger."""

from __future__ import annotations

from buildkit.plan.plan import Plan
from buildkit.plan.spec import PackWheels
from buildkit.report.build_report import Report
from buildkit.store.latest_build import is_latest
from buildkit.store.ledger import Ledger


def record_build(ledger: Ledger, plan: Plan, report: Report, started: float) -> None:
    """Note what was used, and the build, unless it did nothing and the image is what the last one made of it.

    What was changed and taken back is the case in between: nothing is built, but ``explain`` must compare with this.
    """
    _note_use(ledger, plan)
    acted = plan.missing or report.imported or report.pushed
    if acted or not is_latest(ledger, report.stage, report.image, report.digest):
        ledger.add_build(report.as_json(), started)


def _note_use(ledger: Ledger, plan: Plan) -> None:
    """Layers were used, and what built layers were made of."""
    works = [entry.spec.work for entry in plan.missing]
    ledger.touch([entry.spec.key for entry in plan.entries])
    wheels = [work for work in works if isinstance(work, PackWheels)]
    ledger.touch_wheels([item.key for work in wheels for item in work.compiled])
    ledger.touch_downloads([a.sha256 for work in wheels for a in work.wheels if a.sha256 is not None])
