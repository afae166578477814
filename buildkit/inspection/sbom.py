"""Summarize an SBOM for people."""

from __future__ import annotations

from buildkit.report.text import format_count
from buildkit.supply.components import ComponentKind, Sbom

_WORDS = {
    ComponentKind.WHEEL: "Python package",
    ComponentKind.DEBIAN: "Debian package",
    ComponentKind.MODEL: "model",
    ComponentKind.APPLICATION: "folder of files",
    ComponentKind.IMAGE: "image of a registry",
    ComponentKind.PYTHON: "Python of its own",
}


def render_summary(sbom: Sbom) -> list[str]:
    """Return lines: what the SBOM lists, and what it does not know."""
    counts = [(sum(part.kind is kind for part in sbom.components), word) for kind, word in _WORDS.items()]
    stage = sbom.image.rpartition("/")[2]
    lines = [f"{sbom.image}: " + (", ".join(format_count(count, word) for count, word in counts if count) or "nothing")]
    if unmade := sum(not layer.blobs for layer in sbom.layers):
        hint = f"build it: nox -s build-{stage}"
        lines.append(f"  {unmade} of {len(sbom.layers)} layers were never made here, so they have no digest ({hint})")
    unlicensed = [part for part in sbom.components if part.licence.missing and part.kind is not ComponentKind.IMAGE]
    unlicensed = [part for part in unlicensed if part.kind is not ComponentKind.APPLICATION]
    for why in sorted({part.licence.missing for part in unlicensed}):
        count = sum(part.licence.missing == why for part in unlicensed)
        lines.append(f"  {count} without a known licence: {why}")
    if sbom.dirty:
        lines.append("  files differ from the commit that it names: commit them for an SBOM that others can check")
    return lines
