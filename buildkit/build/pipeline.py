"""A build session: sweep the cache, build the stages, print their reports."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext
from buildkit.build.mounted_models import name_models, with_models
from buildkit.build.options import BuildOptions, PlannerOptions, open_remote_cache
from buildkit.build.planner import open_planner, shipping_stages
from buildkit.build.stage_build import StageBuild
from buildkit.declare.graph import Graph
from buildkit.declare.project import Project, load_project
from buildkit.errors import BuildError
from buildkit.report.build_report import Report, print_report, print_timings
from buildkit.report.view import open_view

if TYPE_CHECKING:
    from buildkit.build.attestations import AttestationRequest
    from buildkit.oci.reference import Ref
    from buildkit.tasks.trace_recorder import TraceRecorder


def build_stages(
    folder: Path,
    names: tuple[str, ...],
    options: BuildOptions,
    locks: Mapping[str, str] | None = None,
    recorder: TraceRecorder | None = None,
) -> list[Report]:
    """Build the named stages, or without names those that ship; print and return a report of each.

    Raises DefinitionError or BuildError. Cache and storage are then as they were before, except for layers that were
    finished before the failure, which the next build uses. An image whose containers mount models is built with the
    image of these, which is reported last. ``locks`` are texts of locks by path that count in place of those on disk.
    ``recorder`` gets what happens as spans.
    """
    attestations = _open_attestations(options)
    planned = PlannerOptions(
        models=options.model_changes(os.environ),
        secrets=options.secrets,
        args=options.args,
        locks=locks,
        delivery=options.delivery,
        compilers=options.compilers,
    )
    arches = _order_arches(load_project(folder), options) if options.arches or options.push else ("",)
    made: dict[str, dict[str, Report]] = {}  # by stage and processor
    with open_view(sys.stderr) as emit:
        for arch in arches:
            with open_planner(folder, emit, replace(planned, arch=arch)) as planner:
                planner.context.meter.recorder = recorder
                _sweep(planner.context)
                open_remote_cache(planner.context, options.share)
                asked = names or shipping_stages(planner.graph)
                for stage in with_models(planner.graph, asked):
                    targets = _targets(planner.graph, stage, asked, options, several=not names)
                    own = targets if len(arches) == 1 else _untagged(targets)
                    mounted = made.get(planner.graph.models_stage(stage), {}).get(arch)
                    build = StageBuild(planner, options, own, attestations, mounted)
                    made.setdefault(stage, {})[arch] = _run(build, stage, arch, recorder)
                    if options.push and len(arches) > 1 and arch == arches[-1]:
                        made[stage] = _publish_index(planner.context, targets, made[stage], attestations)
    reports = [report for stage in dict.fromkeys((*asked, *made)) for report in made[stage].values()]
    _print(reports, timings=options.timings)
    return reports


def _print(reports: Sequence[Report], *, timings: bool) -> None:
    for report in reports:
        print_report(report, sys.stderr)
        if timings:
            print_timings(report, sys.stderr)


def _run(build: StageBuild, stage: str, arch: str, recorder: TraceRecorder | None) -> Report:
    if recorder is None:
        return build.run(stage)
    from buildkit.build.traced_build import traced_stage  # most builds are not traced

    with traced_stage(recorder, stage, arch) as reports:
        reports.append(build.run(stage))
    return reports[0]


def _order_arches(project: Project, options: BuildOptions) -> tuple[str, ...]:
    """Return the processors to build for, this machine's last: what it cannot make for the others is found first."""
    return tuple(sorted(options.choose_arches(project), key=lambda arch: arch == project.host))


def _untagged(targets: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """Return the repository of ``targets``: an image of an index is pushed by its digest."""
    return tuple(replace(ref, tag="") for ref in targets[:1])


def _publish_index(
    context: BuildContext,
    targets: tuple[Ref, ...],
    reports: Mapping[str, Report],
    attestations: AttestationRequest | None,
) -> dict[str, Report]:
    from buildkit.build.image_index import publish_index  # few pushes are for several processors

    digest = publish_index(context, targets, reports, attestations)
    *others, last = reports
    pushed_as = {**reports[last].pushed_as, **{str(ref): str(digest) for ref in targets}}
    return {**{arch: reports[arch] for arch in others}, last: replace(reports[last], pushed_as=pushed_as)}


def _targets(
    graph: Graph, stage: str, asked: tuple[str, ...], options: BuildOptions, *, several: bool
) -> tuple[Ref, ...]:
    """Return where a stage's image is pushed; models that nobody asked for go beside the image that mounts them."""
    if several or stage in asked:
        return options.targets(stage, several=several)
    return tuple(map(name_models, options.targets(graph.stages[stage].models_of, several=False)))


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
