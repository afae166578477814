"""The result of building the layers of a stage twice: a value, its JSON (``--json``), and its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TextIO

from buildkit.layers.tar.compare import Comparison
from buildkit.oci.blob import Blob
from buildkit.report.table import print_table
from buildkit.report.text import format_bytes, format_seconds, sanitize


class LayerVerdict(StrEnum):
    """The verdict on a layer."""

    AGREES = "agrees"
    DIFFERS = "differs"
    PINNED = "pinned"  # of a registry: the stage file names its digest, nothing is built
    UNCLAIMED = "not claimed"  # a command wrote it
    BORROWED = "borrowed"  # at the user's request


_WHY = {
    LayerVerdict.PINNED: "the stage file names its digest, nothing is made here",
    LayerVerdict.UNCLAIMED: "a command wrote it (-- --steps compares that, too)",
    LayerVerdict.BORROWED: "taken as it is (--no-root)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedLayer:
    """One layer: ``first`` is that of the cache, ``second`` was rebuilt (None if it was not)."""

    name: str
    kind: str
    key: str
    verdict: LayerVerdict
    first: Blob
    second: Blob | None = None
    comparison: Comparison = field(default_factory=Comparison)

    def as_json(self) -> dict[str, Any]:
        """Return the stable form that docs/cache.md describes."""
        return {
            "name": self.name,
            "kind": self.kind,
            "key": self.key,
            "verdict": self.verdict,
            "first": _digests(self.first),
            "second": _digests(self.second) if self.second else None,
            **self.comparison.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The result for a stage; ``varied`` lists what was different in the second build, by name."""

    stage: str
    layers: tuple[ComparedLayer, ...]
    varied: Mapping[str, str]
    seconds: float

    @property
    def agrees(self) -> bool:
        """Whether no layer differs."""
        return not self.having(LayerVerdict.DIFFERS)

    def having(self, verdict: LayerVerdict) -> tuple[ComparedLayer, ...]:
        """Return the layers with this verdict."""
        return tuple(layer for layer in self.layers if layer.verdict is verdict)

    def as_json(self) -> dict[str, Any]:
        """Return the stable form that docs/cache.md describes."""
        return {
            "stage": self.stage,
            "agrees": self.agrees,
            "seconds": round(self.seconds, 3),
            "varied": dict(self.varied),
            "layers": [layer.as_json() for layer in self.layers],
        }


def print_agreement(agreement: Agreement, out: TextIO) -> None:
    """Print a table of the layers, their differences, and the summary."""
    rows = [(x.name, format_bytes(x.first.size), _format_diff_ids(x), x.verdict) for x in agreement.layers]
    print_table(f"{agreement.stage}: built twice", ("layer", "size", "diff_id", "verdict"), rows, out)
    lines = [
        f"{layer.name}: {line}" for layer in agreement.layers for line in str(layer.comparison).splitlines()
    ] + list(_last_lines(agreement))
    print("\n".join(sanitize(line) for line in lines), file=out, flush=True)


def _format_diff_ids(layer: ComparedLayer) -> str:
    ids = dict.fromkeys(blob.diff_id.short for blob in (layer.first, layer.second) if blob)
    return " ≠ ".join(ids)


def _last_lines(agreement: Agreement) -> Iterator[str]:
    agree, differ = agreement.having(LayerVerdict.AGREES), agreement.having(LayerVerdict.DIFFERS)
    size = format_bytes(sum(layer.first.size for layer in agree))
    parts = [f"{_count(differ)} differ{'s' * (len(differ) == 1)}" if differ else ""]
    parts.append(f"{_count(agree)} of {size} came out the same" if agree else "")
    what = ", ".join(filter(None, parts)) or "no layer is made here"
    yield f"{agreement.stage}: {what}, {format_seconds(agreement.seconds)}"
    yield from (f"{verdict}: {why}" for verdict, why in _WHY.items() if agreement.having(verdict))
    yield "the second time: " + ", ".join(f"{name} {value}" for name, value in agreement.varied.items())


def _count(layers: tuple[ComparedLayer, ...]) -> str:
    return f"{len(layers)} layer{'s' * (len(layers) != 1)}"


def _digests(blob: Blob) -> dict[str, Any]:
    return {"diff_id": str(blob.diff_id), "digest": str(blob.digest), "size": blob.size}
