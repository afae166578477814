"""A layer that is here under another compression is compressed again instead of being made again.

The setting ``compression`` is part of recipes, because one key has one blob; the tar does not depend on it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from buildkit.build.context import BuildContext
from buildkit.digest import Digest, Key, canonical_json
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.spec import Spec

_KEY = "compression"  # of a recipe; absent for zstd
_SETTINGS = (Compression.ZSTD, Compression.CHUNKED, Compression.GZIP)


def recompress(
    context: BuildContext, spec: Spec, *, compress: bool
) -> tuple[LayerResult, list[tuple[str, str]]] | None:
    """Return the layer and its listing; None if it is not here under another compression.

    Without ``compress``, a layer that the image store has gets its blob when a registry needs it. Raises what
    `LayerBytes.make_blob` raises.
    """
    wanted, twins = find_twins(json.loads(spec.recipe))
    for twin, found in context.ledger.layers.find(twins).items():
        listing = context.ledger.layers.contents(twin)
        if listing is not None and len(found.blobs) == 1 and context.layers.has(found.blobs[0]):
            return _take(context, spec, found, wanted, compress=compress), listing
    return None


def _take(context: BuildContext, spec: Spec, found: LayerResult, wanted: Compression, *, compress: bool) -> LayerResult:
    (blob,) = found.blobs
    made = blob if blob.compression is Compression.NONE else _compress(context, spec.name, blob, wanted, now=compress)
    facts = context.ledger.natives.find([blob.digest])
    if made.digest != blob.digest and blob.digest in facts:
        context.ledger.natives.add(made.digest, facts[blob.digest])
    return replace(found, blobs=(made,))


def find_twins(recipe: dict[str, Any]) -> tuple[Compression, list[Key]]:
    """Return the compression of a recipe, and the keys of those that differ in it alone."""
    wanted = Compression(recipe.get(_KEY, Compression.ZSTD))
    rest = {name: value for name, value in recipe.items() if name != _KEY}
    others = [rest | ({} if how is Compression.ZSTD else {_KEY: str(how)}) for how in _SETTINGS if how is not wanted]
    return wanted, [Key.of(canonical_json(other).encode()) for other in others]


def _compress(context: BuildContext, name: str, blob: Blob, wanted: Compression, *, now: bool) -> Blob:
    if not now and context.layers.has_tree(blob):
        return replace(blob, digest=Digest(blob.diff_id.hex), size=blob.unpacked, compression=wanted, toc=None)
    made, _seconds = context.layers.make_blob(blob, context.progress(name), wanted)
    return made
