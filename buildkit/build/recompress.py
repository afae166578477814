"""A layer that is here under the other compression is compressed again instead of being made again.

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


def recompress(
    context: BuildContext, spec: Spec, *, compress: bool
) -> tuple[LayerResult, list[tuple[str, str]]] | None:
    """Return the layer and its listing; None if it is not here under another compression.

    Without ``compress``, a layer that the image store has gets its blob when a registry needs it. Raises what
    `LayerBytes.make_blob` raises.
    """
    wanted, twin = find_twin(json.loads(spec.recipe))
    found = context.ledger.layers.find([twin]).get(twin)
    listing = context.ledger.layers.contents(twin) if found else None
    if found is None or listing is None or len(found.blobs) != 1 or not context.layers.has(found.blobs[0]):
        return None
    (blob,) = found.blobs
    made = blob if blob.compression is Compression.NONE else _compress(context, spec.name, blob, wanted, now=compress)
    facts = context.ledger.natives.find([blob.digest])
    if made.digest != blob.digest and blob.digest in facts:
        context.ledger.natives.add(made.digest, facts[blob.digest])
    return replace(found, blobs=(made,)), listing


def find_twin(recipe: dict[str, Any]) -> tuple[Compression, Key]:
    """Return the compression of a recipe, and the key of the one that differs in it alone."""
    wanted = Compression(recipe.get(_KEY, Compression.ZSTD))
    other = {name: value for name, value in recipe.items() if name != _KEY}
    if wanted is Compression.ZSTD:
        other[_KEY] = str(Compression.GZIP)
    return wanted, Key.of(canonical_json(other).encode())


def _compress(context: BuildContext, name: str, blob: Blob, wanted: Compression, *, now: bool) -> Blob:
    if not now and context.layers.has_tree(blob):
        return replace(blob, digest=Digest(blob.diff_id.hex), size=blob.unpacked, compression=wanted)
    made, _seconds = context.layers.make_blob(blob, context.progress(name), wanted)
    return made
