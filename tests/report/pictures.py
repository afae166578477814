"""Pictures of stages, made by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buildkit.plan.plan import LayerSource
from buildkit.report.stage_graph import Edge, EdgeKind, GraphLayer, ImageTotals, Picture, StageNode, sum_layers

MB = 1_000_000
HOSTILE = '<b onload="x">&amp;\'\x1b[31m]]>\x00\ud800\u202e`#quot;\n-->end'


def layer(
    name: str,
    size: int | None = MB,
    source: LayerSource = LayerSource.STORAGE,
    why: str = "",
    images: Sequence[str] = ("app",),
) -> GraphLayer:
    return GraphLayer(
        name=name, kind="wheels", key=f"sha256:{name}", source=source, bytes=size, why=why, images=tuple(images)
    )


def image_of(layers: Iterable[GraphLayer]) -> ImageTotals:
    listed = list(layers)
    return ImageTotals(
        whole=sum_layers(listed),
        build=sum_layers(x for x in listed if x.source is LayerSource.BUILT),
        imports=sum_layers(x for x in listed if x.source is not LayerSource.STORAGE),
    )


def box(
    name: str, *layers: GraphLayer, base: str = "", include: Sequence[str] = (), ships: bool = False, asked: bool = True
) -> StageNode:
    edges = [Edge(kind=EdgeKind.FROM, stage=base)] if base else []
    edges += [Edge(kind=EdgeKind.INCLUDE, stage=other) for other in include]
    return StageNode(
        name=name,
        summary=f"what {name} is",
        ships=ships,
        edges=tuple(edges),
        layers=layers,
        image=image_of(layers) if asked else None,
    )


def service() -> Picture:
    """A root, two wheels and a bin, an application that is to be built, and a stage without layers."""
    return Picture(
        project="speech",
        stages=(
            box("base", layer("base/root", 118 * MB)),
            box(
                "deps",
                layer("/opt/venv", 7680),
                layer("deps/torch", 900 * MB, LayerSource.CACHE),
                layer("deps/numpy", 60 * MB, LayerSource.SHARED),
                layer("deps/bin-1", MB, LayerSource.CACHE),
            ),
            box(
                "app",
                layer("app/app", 60_166, LayerSource.BUILT, "main.py changed"),
                base="base",
                include=("deps",),
                ships=True,
            ),
            box("debug", base="app"),
        ),
    )


def hostile() -> Picture:
    """Names as nobody should give them."""
    evil = layer(f"{HOSTILE}/{HOSTILE}", MB, LayerSource.BUILT, HOSTILE, images=(HOSTILE,))
    return Picture(project=HOSTILE, stages=(box(HOSTILE, evil), box("other", base=HOSTILE, include=(HOSTILE,))))
