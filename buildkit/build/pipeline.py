"""A build session: sweep the cache, build the stages, print their reports."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext
from buildkit.build.options import BuildOptions, open_remote_cache
from buildkit.build.planner import open_planner, shipping_stages
from buildkit.build.stage_build import StageBuild
from buildkit.errors import BuildError
from buildkit.report.build_report import Report, print_report, print_timings
from buildkit.report.view import open_view

if TYPE_CHECKING:
    from buildkit.build.attestations import AttestationRequest


def build_stages(
    folder: Path, names: tuple[str, ...], options: BuildOptions, locks: Mapping[str, str] | None = None
) -> list[Report]:
    """Build the named stages, or without names those that ship; print and return a report of each.

    Raises DefinitionError or BuildError. Cache and storage are then as they were before, except for layers that were
    finished before the failure, which the next build uses. ``locks`` are texts of locks by path that count in place of
    those on disk.
    """
    attestations, models = _open_attestations(options), options.model_changes(os.environ)
    opened = partial(
        open_planner,
        models=models,
        secrets=options.secrets,
        args=options.args,
        locks=locks,
        delivery=options.delivery,
    )
    with open_view(sys.stderr) as emit, opened(folder, emit) as planner:
        _sweep(planner.context)
        stages = names or shipping_stages(planner.graph)
        open_remote_cache(planner.context, options.share)
        targets = {stage: options.targets(stage, several=not names) for stage in stages}
        reports = [StageBuild(planner, options, targets[stage], attestations).run(stage) for stage in stages]
    for report in reports:
        print_report(report, sys.stderr)
        if options.timings:
            print_timings(report, sys.stderr)
    return reports


def _open_attestations(options: BuildOptions) -> AttestationRequest | None:
    """Return how pushed images are attested and signed; a key that cannot be used fails here, before the build."""
    if not options.attests:
        return None
    from buildkit.build.attestations import open_attestations

    return open_attestations(
        attest=options.attest, key=options.sign_by, keyless=options.sign_keyless, sign_tags=options.sign_tags
    )


def _sweep(context: BuildContext) -> None:
    """Remove temporary files, folders of roots and containers that killed builds left behind."""
    context.blobs.sweep_quickly()
    leases = context.blobs.leases

    def remove(names: Sequence[str]) -> frozenset[str]:
        from buildkit.build.preimport import EARLY
        from buildkit.build.root_folders import remove_root_folders, select_root_folders  # few builds find anything
        from buildkit.tools.buildah import remove_containers

        folders = select_root_folders(names)
        containers = tuple(name for name in names if name not in folders and not name.startswith(EARLY))
        gone = remove_root_folders(leases, folders)
        return gone | remove_containers(containers) if containers else gone

    with suppress(BuildError):  # whatever needs storage reports what is wrong with it
        leases.sweep(remove)
