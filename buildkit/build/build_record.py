"""The record of a finished build: its report's lines, and what it writes into the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.build.build_state import BuildState
from buildkit.plan.plan import LayerSource, Plan
from buildkit.plan.spec import PackWheels
from buildkit.report.build_report import LayerLine, Report
from buildkit.store.ledger import Ledger


def report_lines(plan: Plan, state: BuildState) -> Iterator[LayerLine]:
    """Yield the report's line of each blob of the image; a layer that another process built counts as cached."""
    for layer in plan.entries:
        spec, result = layer.spec, state.results[layer.spec.key]
        was_found = layer.source is LayerSource.BUILT and state.was_found(spec.key)
        was_built = layer.source is LayerSource.BUILT and not was_found
        for blob in result.blobs:
            yield LayerLine(
                name=spec.name,
                kind=spec.kind,
                key=str(spec.key),
                diff_id=str(blob.diff_id),
                digest=str(blob.digest) if blob.is_made else "",
                size=blob.size,
                source=LayerSource.CACHE if was_found else layer.source,
                seconds=result.seconds if was_built else 0.0,
                why=layer.why if was_built else "",
            )


def record_build(ledger: Ledger, plan: Plan, report: Report, started: float) -> None:
    """Record what was used, and the build itself unless it did nothing and made the same image as the last one.

    A build after a reverted change builds nothing but makes another image than the last one; it is recorded, because
    ``explain`` must compare with it.
    """
    _record_use(ledger, plan)
    acted = plan.missing or report.is_new or report.pushed
    if acted or not ledger.builds.is_latest(report.stage, report.image, report.digest):
        ledger.builds.add(report.as_json(), started)


def _record_use(ledger: Ledger, plan: Plan) -> None:
    """Record the use of all layers, and of the files that built layers were packed from."""
    ledger.layers.touch([layer.spec.key for layer in plan.entries])
    wheels = [layer.spec.work for layer in plan.missing if isinstance(layer.spec.work, PackWheels)]
    if not wheels:
        return  # so that a build with nothing to do loads neither table
    ledger.wheels.touch([item.key for work in wheels for item in work.compiled])
    ledger.downloads.touch(
        [artifact.sha256 for work in wheels for artifact in work.wheels if artifact.sha256 is not None]
    )
