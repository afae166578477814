"""Will it start? A warning at the build of an image whose native files lack what they need; it stops nothing.

What a layer's files need is noted while the layer is packed, and kept by the digest of its blob; a blob that came
otherwise (a root, a registry's image) is read once. A set of layers is checked once, and what was said of it is said
again, so that a build with nothing to do looks up one row. A shared cache tells the same of its layers; where it does
not, and their blobs are not here, nothing is said.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from buildkit.build.context import BuildContext
from buildkit.digest import Digest, Key, canonical_json
from buildkit.errors import BuildError
from buildkit.events import Note, StepFinished, StepStarted
from buildkit.layers.tar.member import Chunks, Member
from buildkit.native import NOTHING
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Spec
from buildkit.store.native_facts import Natives
from buildkit.tasks.concurrent import run_concurrently

if TYPE_CHECKING:
    from buildkit.native.collector import Survey
    from buildkit.native.facts import Facts
    from buildkit.remote.cache_record import CacheRecord

_RULES = 1  # raised when the same facts would be judged otherwise
_SHOWN = 5
_LARGE = 256 << 20  # bytes of a tar that take a while to read
_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD")


def watched(members: Iterable[Member], survey: Survey) -> Iterator[Member]:
    """The same members, whose native files the survey sees while their content is read."""
    for member in members:
        if member.kind == "symlink":
            survey.link(member.path, member.target)
        if member.content is not None and survey.wants(member.path, member.size):
            yield replace(member, content=partial(_watch, member.path, member.content, survey))
        else:
            yield member


def _watch(path: str, content: Chunks, survey: Survey) -> Iterator[bytes]:
    return survey.watch(path, content())


def keep_survey(context: BuildContext, digest: Digest, survey: Survey) -> None:
    """Keep what was seen while a blob was packed; whatever hinders that is said by what matters more."""
    from buildkit.native.facts import encode_facts

    with suppress(BuildError):
        Natives(context.ledger).add(digest, encode_facts(survey.facts()))


def keep_natives(context: BuildContext, entry: CacheRecord) -> None:
    """Keep what a shared cache tells of a layer's native files."""
    if any(entry.natives):
        natives, blobs = Natives(context.ledger), entry.made.blobs
        for blob, facts in zip(blobs, entry.natives, strict=True):
            if facts:
                natives.add(blob.digest, facts)


def known_natives(
    context: BuildContext, digests: Sequence[Digest], check: Future[None] | None = None
) -> dict[Digest, bytes]:
    """Return the known native facts of blobs; where some are missing, wait for the running ``check`` to add them."""
    natives = Natives(context.ledger)
    known = natives.find(digests)
    if check and not known.keys() >= set(digests):
        wait([check])
        known = natives.find(digests)
    return known


@contextmanager
def warning_of_start(composition: Composition, image: Image, context: BuildContext) -> Iterator[Future[None]]:
    """Beside the block, find out what keeps files of an image from being loaded, as far as its layers are here."""
    with run_concurrently(lambda: _warn(composition, image, context)) as check:
        yield check


def _warn(composition: Composition, image: Image, context: BuildContext) -> None:
    if not composition.root:
        return  # layers for others to include
    env = {name: value for name, value in image.config.env if name in _VARIABLES}
    natives, digests = Natives(context.ledger), [layer.blob.digest for layer in image.layers]
    hollow = natives.hollow(digests)  # whatever an application's lines are
    asked = [_RULES, image.arch, sorted(env.items()), [digest.hex for digest in digests if digest not in hollow]]
    key = Key.of(canonical_json(asked).encode())
    said = natives.said(key)
    if said is None:
        with context.meter.phase("look"):
            said = _check(composition, env, image.arch, context)
        if said is None:
            return
        natives.say(key, said)
    for line in said:
        context.emit(Note(text=line, warning=True))


def _check(composition: Composition, env: dict[str, str], arch: str, context: BuildContext) -> tuple[str, ...] | None:
    from buildkit.findings import Severity
    from buildkit.native.check import check_native
    from buildkit.native.facts import merge

    owned = [(spec, blob) for spec in composition.specs for blob in context.state.results[spec.key].blobs]
    facts = _find_facts(composition.stage.name, owned, context)
    if facts is None:
        return None
    found = [one for one in check_native(merge(facts), env, arch) if one.severity >= Severity.MEDIUM]
    lines = [" ".join(f"may not start: /{one.path} of {one.layer}: {one.what}".split()) for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"may not start: {len(found) - _SHOWN} more; nox -s audit -- {composition.stage.name} tells all")
    return tuple(lines)


def _find_facts(
    stage: str, owned: Sequence[tuple[Spec, Blob]], context: BuildContext
) -> list[tuple[str, Facts]] | None:
    """What each blob holds, lowest first; None where one is neither known nor here, or cannot be read.

    Also None where nothing native was made here, and the rest came from a shared cache: it was said there.
    """
    from buildkit.native.facts import decode_facts, encode_facts

    natives, elsewhere = (
        Natives(context.ledger),
        [(spec, blob) for spec, blob in owned if context.state.is_only_remote(spec.key)],
    )
    known = natives.find(blob.digest for _, blob in owned)
    if elsewhere:
        if all(known.get(blob.digest) == NOTHING for spec, blob in owned if not context.state.is_only_remote(spec.key)):
            return None
        known |= _ask(stage, [(spec, blob) for spec, blob in elsewhere if blob.digest not in known], context)
    facts = {digest: found for digest, data in known.items() if (found := decode_facts(data)) is not None}
    missing = {blob.digest: (spec.name, blob) for spec, blob in owned if blob.digest not in facts}
    if not all(context.blobs.has(blob.digest, blob.size) for _, blob in missing.values()):
        return None
    for digest, (name, blob) in missing.items():
        try:
            facts[digest] = _read(name, blob, context)
        except (BuildError, OSError, ValueError):
            return None  # whoever needs the blob's bytes says what is wrong with it
        natives.add(digest, encode_facts(facts[digest]))
    return [(spec.name, facts[blob.digest]) for spec, blob in owned]


def _ask(stage: str, wanted: Sequence[tuple[Spec, Blob]], context: BuildContext) -> dict[Digest, bytes]:
    """What a shared cache tells of native files, by one request; it is asked one by one for what its roster lacks."""
    natives, digests = Natives(context.ledger), [blob.digest for _, blob in wanted]
    for digest, facts in context.remote_cache.natives(stage, digests, context.blobs).items():
        natives.add(digest, facts)
    known = natives.find(digests)
    for entry in context.remote_cache.entries({s.key: None for s, blob in wanted if blob.digest not in known}).values():
        keep_natives(context, entry)
    return natives.find(digests)


def _read(name: str, blob: Blob, context: BuildContext) -> Facts:
    from buildkit.layers.tar.decompress import inflate

    began, step = time.monotonic(), f"libraries of {name}"
    if blob.unpacked >= _LARGE:
        context.emit(StepStarted(step=step, phase="look", total=blob.unpacked))
    facts = read_facts(_counted(inflate(context.blobs.path(blob.digest), blob.compression), step, context), name)
    if blob.unpacked >= _LARGE:
        context.emit(StepFinished(step=step, phase="look", seconds=time.monotonic() - began))
    return facts


def _counted(chunks: Iterator[bytes], step: str, context: BuildContext) -> Iterator[bytes]:
    progress, done = context.progress(step), 0
    for chunk in chunks:
        done += len(chunk)
        progress(done)
        yield chunk


def read_facts(chunks: Iterable[bytes], name: str) -> Facts:
    """What starting depends on in a layer whose tar comes in ``chunks``; raises BuildError for one that is damaged."""
    from buildkit.layers.tar.reader import TarReader
    from buildkit.native.collector import Survey

    survey, reader = Survey(), TarReader(chunks, f"the layer {name}")
    for member in reader:
        path, kind = member.path.decode("utf-8", "replace"), member.fields["type"]
        if kind in ("file", "sparse file"):
            survey.take(path, member.size, reader.content())
        elif kind == "symbolic link":
            survey.link(path, member.fields["link"])
        elif kind == "hard link":
            survey.hardlink(path, member.fields["link"].strip("/"))
        elif path:
            survey.take(path, 0, ())  # a whiteout may be of any kind
    return survey.facts()
