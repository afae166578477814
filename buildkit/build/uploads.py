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
from buildkit.remote.blob_upload import LayerUpload
from buildkit.remote.cache_export import CacheExport
from buildkit.remote.push import Push
from buildkit.tools.registry import RegistryClient


def open_push(context: BuildContext, refs: Sequence[Ref]) -> Push:
    """Return the push to ``refs``; it uploads layers early, unless they go to a remote cache while they are built."""
    registries, find_mount = RegistryClient(context.stop), MountSources(context, refs[0]).find
    upload = None
    if not context.remote_cache.writes:
        upload = LayerUpload(refs[0], context.blobs, registries, context.state.results, context.progress, find_mount)
    return Push(refs, context.blobs, registries, upload, find_mount)


def open_cache_export(planner: Planner, check: Future[None] | None = None) -> CacheExport:
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
        count_pushed=lambda size: context.tally.add(pushed=size),
        make_blobs=partial(make_blobs, context),
        emit=context.emit,
        stop=context.stop,
        meter=context.meter,
    )
