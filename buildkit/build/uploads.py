"""Connect a build to what uploads its results: the push of the image, and the export to the remote cache."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from buildkit.build.builder_scans import find_builder_scans
from buildkit.build.context import BuildContext
from buildkit.build.make_blobs import make_blobs
from buildkit.build.mount_sources import MountSources
from buildkit.build.native_facts import find_native_facts
from buildkit.build.planner import Planner
from buildkit.oci.reference import Ref
from buildkit.plan.plan import Plan
from buildkit.remote.blob_upload import LayerUpload
from buildkit.remote.cache_export import CacheExport
from buildkit.remote.layer_stream import LayerStreams
from buildkit.remote.push import Push
from buildkit.tools.registry import RegistryClient

_LOOKED_AT = 5  # builds of a stage, which may have been pushed to several places


def open_streams(context: BuildContext, plan: Plan, refs: Sequence[Ref]) -> LayerStreams:
    """Return what uploads new layers while they are written; nothing where the registry may have them already.

    A build elsewhere makes the same bytes, and only a blob that is complete can be asked for. But a remote cache that
    was asked for a layer, and has others, lacks it; and if the first of ``refs`` is what this machine pushed last, so
    does its repository. Where most layers are built, keys may be new and bytes old: after an update of this program.
    """
    cache, registries = context.remote_cache, RegistryClient(context.stop).without_retries()
    if len(plan.missing) * 2 > len(plan.entries):
        return LayerStreams(None)
    if cache.writes:
        return LayerStreams(lambda key, blob: cache.lacks(key) and registries.stream(cache.repositories[-1], blob))
    last = _find_last_push(context, plan.composition.stage.name, refs[0]) if refs else ""
    if not last:
        return LayerStreams(None)
    return LayerStreams(lambda _key, blob: str(registries.digest(refs[0])) == last and registries.stream(refs[0], blob))


def _find_last_push(context: BuildContext, stage: str, ref: Ref) -> str:
    """Return the digest that this machine pushed to a tag last; empty if that is not known."""
    builds = context.ledger.builds.last(stage, context.project.ref(stage), _LOOKED_AT)
    pushed = (one for _, report in builds for one in report["pushed"] if one["ref"] == str(ref))
    return next((str(one["digest"]) for one in pushed), "")


def open_push(context: BuildContext, refs: Sequence[Ref], streams: LayerStreams) -> Push:
    """Return the push to ``refs``; it uploads layers early, unless they go to a remote cache while they are built."""
    registries, find_mount = RegistryClient(context.stop), MountSources(context, refs[0]).find
    upload = None
    if not context.remote_cache.writes:
        results, progress = context.state.results, context.progress
        upload = LayerUpload(refs[0], context.blobs, registries, results, progress, find_mount, streams)
    return Push(refs, context.blobs, registries, upload, find_mount)


def open_cache_export(planner: Planner, streams: LayerStreams, check: Future[None] | None = None) -> CacheExport:
    """Return the export of the planner's build; it waits for the native facts of a running ``check``."""
    context = planner.context
    return CacheExport(
        cache=context.remote_cache,
        layers=context.layers,
        ledger=context.ledger,
        results=context.state.results,
        find_present=planner.lookup,
        find_native_facts=partial(find_native_facts, context.ledger, check=check),
        find_scans=partial(find_builder_scans, context),
        streams=streams,
        count_pushed=lambda size: context.tally.add(pushed=size),
        make_blobs=partial(make_blobs, context),
        emit=context.emit,
        stop=context.stop,
        meter=context.meter,
    )
