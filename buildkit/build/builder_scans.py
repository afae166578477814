"""Scans of models that go with a layer to the remote cache, and come from there with it.

Whoever may write to a remote cache decides what a key resolves to, so a layer's bytes are believed, and nobody scans
them where they are not fetched. The builder's scan is believed as far: of this layer, by the same rules. A file that
is packed here is scanned here.
"""

from __future__ import annotations

from buildkit.build.context import BuildContext
from buildkit.build.model_scanner import ModelScanner
from buildkit.declare.model_allowlist import load_allowlist
from buildkit.plan.spec import PackModel, Spec
from buildkit.remote.cache_record import MAX_SCANS, BuilderScan, CacheRecord
from buildkit.scan import UNKNOWN_CONTENT, Scan, ScanGap
from buildkit.store.ledger import Ledger
from buildkit.store.scan_verdicts import ScanVerdicts, rules_of_builder

_UNKNOWN = (ScanGap(UNKNOWN_CONTENT),)


def find_builder_scans(context: BuildContext, spec: Spec) -> tuple[BuilderScan, ...]:
    """Return the scans by this host, under the present rules, that found nothing in the files of a model's layer."""
    work = spec.work
    if not isinstance(work, PackModel) or len(work.files) > MAX_SCANS:
        return ()
    scanner = ModelScanner(context, load_allowlist(context.project.folder))
    scans = scanner.known(file.sha256 for file in work.files)
    return tuple(
        BuilderScan(sha256, scanner.rules, scan.formats, unknown=bool(scan.gaps))
        for sha256, scan in sorted(scans.items(), key=lambda item: item[0].hex)
        if not scan.findings and scan.gaps in ((), _UNKNOWN)
    )


def record_builder_scans(ledger: Ledger, spec: Spec, record: CacheRecord) -> None:
    """Keep the scans of a record for the layer that it is of, and for files that the layer has."""
    if not isinstance(spec.work, PackModel):
        return
    files, verdicts = {file.sha256 for file in spec.work.files}, ScanVerdicts(ledger)
    for told in record.scans:
        if told.sha256 in files:
            scan = Scan((), _UNKNOWN if told.unknown else (), told.formats)
            verdicts.add(told.sha256, rules_of_builder(told.rules, spec.key), scan, 0.0)
