"""Warns when native files of a built image lack what they need to start; it never stops the build.

The facts about a layer's native files are collected while it is packed; blobs from other sources (a root, a registry's
image) are read once. A set of layers is checked once and the lines of the warning are kept, so a build with nothing to
do looks up one row. A remote cache has the facts of its layers, too; if it lacks some and their blobs are not on this
host, the check is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext
from buildkit.build.native_facts import record_remote_facts
from buildkit.build.start_check import warn_of_start
from buildkit.digest import Digest, Key, canonical_json
from buildkit.errors import BuildError
from buildkit.events import Note, step
from buildkit.native import NOTHING
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec
from buildkit.tasks.concurrent import run_concurrently

if TYPE_CHECKING:
    from buildkit.native.facts import NativeFacts
    from buildkit.store.tables.natives import NativeTable

_RULES_VERSION = 1  # raised when the same facts would be judged otherwise
_MAX_LINES = 5
_LARGE_TAR_BYTES = 256 << 20  # takes a while to read, so progress is shown
_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD")

OwnedBlobs = Sequence[tuple[Spec, Blob]]


@contextmanager
def native_check_in_background(composition: Composition, image: Image, context: BuildContext) -> Iterator[Future[None]]:
    """Check in the background whether an image's native files can be loaded, and warn of those that cannot."""

    def check_all() -> None:
        warn_of_start(composition, image, context)
        _warn(composition, image, context)

    with run_concurrently(check_all) as check:
        yield check


def _warn(composition: Composition, image: Image, context: BuildContext) -> None:
    for line in find_warning(composition, image, context):
        context.emit(Note(text=line, warning=True))


def find_warning(composition: Composition, image: Image, context: BuildContext) -> tuple[str, ...]:
    """Return the lines of the warning, which are kept; none if the facts of some layer are not available."""
    if not composition.root:
        return ()  # layers for other stages to include: nothing starts in them
    env = {name: value for name, value in image.config.env if name in _VARIABLES}
    store = context.ledger.starts
    if composition.gpu:
        env["[gpu] driver"] = composition.gpu.driver  # what it is compared with is part of the check
    key = _check_key(image, env, context.ledger.natives)
    lines = store.find(key)
    if lines is None:
        with context.meter.phase("look"):
            lines = _check(composition, env, image.arch, context)
        if lines is None:
            return ()
        store.add(key, lines)
    return lines


def _check_key(image: Image, env: Mapping[str, str], store: NativeTable) -> Key:
    """Return the key of a check: the rules, and the layers that have native files, so that scripts do not matter."""
    digests = [layer.blob.digest for layer in image.layers]
    without_natives = store.find_equal(digests, NOTHING)
    layers = [digest.hex for digest in digests if digest not in without_natives]
    return Key.of(canonical_json([_RULES_VERSION, image.arch, sorted(env.items()), layers]).encode())


def _check(composition: Composition, env: dict[str, str], arch: str, context: BuildContext) -> tuple[str, ...] | None:
    """Return the lines of the warning; None if the facts of some layer are not available."""
    from buildkit.findings import Severity
    from buildkit.native.check import check_native
    from buildkit.native.facts import merge_layers

    owned = [(spec, blob) for spec in composition.specs for blob in context.state.results[spec.key].blobs]
    facts = _find_facts(composition.stage.name, owned, context)
    if facts is None:
        return None
    view = merge_layers(facts)
    findings = [finding for finding in check_native(view, env, arch) if finding.severity >= Severity.MEDIUM]
    lines = [" ".join(f"may not start: /{f.path} of {f.layer}: {f.what}".split()) for f in findings[:_MAX_LINES]]
    if len(findings) > _MAX_LINES:
        more = len(findings) - _MAX_LINES
        lines.append(f"may not start: {more} more; nox -s audit -- {composition.stage.name} lists all")
    return (*lines, *_check_driver(composition, view.facts))


def _check_driver(composition: Composition, facts: NativeFacts) -> Iterator[str]:
    """Yield what files need that no wheel tells: of those, a build is warned by the locks (`plan.gpu_advice`)."""
    if composition.gpu is None:
        return
    from buildkit.findings import Severity
    from buildkit.gpu.cuda_versions import compare_need, find_file_needs, find_need
    from buildkit.plan.framework_layer import find_wheels

    files = find_file_needs(facts.files)
    need = find_need(find_wheels(composition.layers), files)
    found = compare_need(need, composition.gpu.driver) if need and need.what in files else None
    if found and found[0] >= Severity.HIGH:
        yield f"/{found[1]}"


def _find_facts(stage: str, owned: OwnedBlobs, context: BuildContext) -> list[tuple[str, NativeFacts]] | None:
    """Return the facts of each blob, lowest first; None if one is neither known nor here, or cannot be read.

    Also None if nothing native was built here and the other layers came from a remote cache: the warning was emitted
    where they were built.
    """
    from buildkit.native.facts import decode_facts, encode_facts

    store = context.ledger.natives
    known = store.find(blob.digest for _, blob in owned)
    remote = [(spec, blob) for spec, blob in owned if context.state.is_only_remote(spec.key)]
    if remote:
        local = (blob for spec, blob in owned if not context.state.is_only_remote(spec.key))
        if all(known.get(blob.digest) == NOTHING for blob in local):
            return None
        known |= _ask_remote(stage, [(spec, blob) for spec, blob in remote if blob.digest not in known], context)
    facts = {digest: decoded for digest, data in known.items() if (decoded := decode_facts(data)) is not None}
    missing = {blob.digest: (spec.name, blob) for spec, blob in owned if blob.digest not in facts}
    if not all(context.layers.has(blob) for _, blob in missing.values()):
        return None
    for digest, (name, blob) in missing.items():
        try:
            facts[digest] = _read_blob(name, blob, context)
        except (BuildError, OSError, ValueError):
            return None  # whatever needs the blob's bytes reports what is wrong with it
        store.add(digest, encode_facts(facts[digest]))
    return [(spec.name, facts[blob.digest]) for spec, blob in owned]


def _ask_remote(stage: str, owned: OwnedBlobs, context: BuildContext) -> dict[Digest, bytes]:
    """Ask a remote cache for facts: by one request for the stage's index, then by one for each layer it lacks."""
    store, digests = context.ledger.natives, [blob.digest for _, blob in owned]
    for digest, facts in context.remote_cache.find_native_facts(stage, digests, context.blobs).items():
        store.add(digest, facts)
    known = store.find(digests)
    keys = dict.fromkeys(spec.key for spec, blob in owned if blob.digest not in known)
    for record in context.remote_cache.find_full_records(keys).values():
        record_remote_facts(context.ledger, record)
    return store.find(digests)


def _read_blob(name: str, blob: Blob, context: BuildContext) -> NativeFacts:
    """Read the facts from a blob's tar; raises BuildError for a damaged one."""
    title, is_large = f"libraries of {name}", blob.unpacked >= _LARGE_TAR_BYTES
    with step(context.emit, title, "look", blob.unpacked) if is_large else nullcontext():
        return read_facts(_report_progress(context.layers.open_tar(blob), title, context), name)


def _report_progress(chunks: Iterator[bytes], title: str, context: BuildContext) -> Iterator[bytes]:
    progress, done = context.progress(title), 0
    for chunk in chunks:
        done += len(chunk)
        progress(done)
        yield chunk


def read_facts(chunks: Iterable[bytes], name: str) -> NativeFacts:
    """Return the native facts of a layer's tar. Raises BuildError if it is damaged."""
    from buildkit.layers.tar.reader import TarReader
    from buildkit.native.collector import NativeCollector

    collector, reader = NativeCollector(), TarReader(chunks, f"the layer {name}")
    for member in reader:
        path, kind = member.path.decode("utf-8", "replace"), member.fields["type"]
        if kind in ("file", "sparse file"):
            collector.add_file(path, member.size, reader.content())
        elif kind == "symbolic link":
            collector.add_link(path, member.fields["link"])
        elif kind == "hard link":
            collector.add_hard_link(path, member.fields["link"].strip("/"))
        else:
            collector.see_other(path)
    return collector.facts()
