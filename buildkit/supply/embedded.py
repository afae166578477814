"""The SBOM that an image holds: what the locks of its layers say, and nothing that changes without them.

It has no commit, no time and no digest of a layer, because the layer that holds it depends on its recipe alone.
"""

from __future__ import annotations

from dataclasses import replace

from buildkit.plan.spec import PackSbom
from buildkit.supply.collect import SbomInputs, collect_layers
from buildkit.supply.components import ComponentKind, Licence
from buildkit.supply.cyclonedx import render_cyclonedx

_INSTALLED = (ComponentKind.WHEEL, ComponentKind.DEBIAN)
_ELSEWHERE = Licence(missing="the package's own files in the image name it")


def render_embedded(work: PackSbom, arch: str) -> bytes:
    """Return the document as CycloneDX 1.6 JSON; equal recipes give equal bytes. ``arch`` is Debian's name for it."""
    facts = SbomInputs(image=work.image, version=work.version, arch=arch, maker="")
    sbom = collect_layers(work.root, work.layers, facts)
    components = tuple(
        replace(part, licence=_ELSEWHERE) if part.licence.missing and part.kind in _INSTALLED else part
        for part in sbom.components
    )
    return render_cyclonedx(replace(sbom, components=components))
