"""The picture as a Mermaid flowchart: its lines are of a few kinds, and foreign text stays in its quotes."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from buildkit.plan.plan import LayerSource
from buildkit.report.graph_mermaid import render_mermaid
from buildkit.report.stage_graph import Picture, format_name, format_source
from tests.report.pictures import MB, box, hostile, layer, service

LABEL = r'\["((?:[^"<>\[\]{}|`\\]|<br/>)*)"\]'
KINDS = {
    "chart": r"flowchart LR",
    "about": r"acc(?:Title|Descr): [^\n:;#{}]*",
    "stage": rf"subgraph (s\d+){LABEL}",
    "empty": rf"(s\d+){LABEL}",
    "direction": r"  direction LR",
    "node": rf"  (s\d+\w+){LABEL}:::(\w+)",
    "end": r"end",
    "edge": r"(s\d+) (-->|-\.->) (s\d+)",
    "look": r"classDef (\w+) [\w#:,. -]+",
    "use": r"class (s\d+(?:,s\d+)*) stage",
}


def parse(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """The lines with their kinds; labels as a reader sees them."""
    found = []
    for line in text.splitlines():
        kind, match = next((k, m) for k, pattern in KINDS.items() if (m := re.fullmatch(pattern, line)))
        found.append((kind, tuple(show(part) for part in match.groups())))
    return found


def show(text: str) -> str:
    return html.unescape(re.sub(r"#(\d+);", r"&#\1;", text.replace("<br/>", "\n")))


def of(kind: str, picture: Picture) -> list[tuple[str, ...]]:
    return [parts for found, parts in parse(render_mermaid(picture)) if found == kind]


def test_mermaid_groups_layers_by_stage_and_links_stages() -> None:
    picture = service()
    assert of("stage", picture) == [("s0", "base: 118 MB"), ("s1", "deps: 961 MB"), ("s2", "app: 60.2 kB")]
    assert of("empty", picture) == [("s3", "debug\nno layers of its own")]
    assert of("edge", picture) == [("s0", "-->", "s2"), ("s1", "-.->", "s2"), ("s2", "-->", "s3")]
    assert of("node", picture) == [
        ("s0l0", "root, 118 MB\nin local storage", "storage"),
        ("s1l0", "/opt/venv, 7.7 kB\nin local storage", "storage"),
        ("s1l1", "torch, 900 MB\nin the cache", "cache"),
        ("s1l2", "numpy, 60.0 MB\nin the remote cache", "shared"),
        ("s1l3", "bin-1, 1.0 MB\nin the cache", "cache"),
        ("s2l0", "app, 60.2 kB\nto be built: main.py changed", "built"),
    ]
    kinds = [kind for kind, _ in parse(render_mermaid(picture))]
    assert kinds[0] == "chart"
    assert kinds.count("stage") == kinds.count("end")


def test_mermaid_defines_every_class_and_dashes_layers_to_be_built() -> None:
    text = render_mermaid(service())
    used = {parts[2] for parts in of("node", service())} | {"stage"}
    assert used <= {parts[0] for parts in of("look", service())}
    dashed = re.findall(r"classDef (\w+) .*stroke-dasharray", text)
    assert dashed == ["built"]


def test_mermaid_shows_layers_to_be_built_and_the_largest_and_groups_the_rest() -> None:
    layers = [layer(f"deps/w{n:02}", (n + 1) * MB) for n in range(20)]
    layers.insert(3, layer("deps/tiny", 1000, LayerSource.BUILT, "why"))
    shown = [label.split(",")[0] for _, label, _ in of("node", Picture(project="p", stages=(box("deps", *layers),)))]
    assert shown == ["tiny", "w17", "w18", "w19", "17 layers more"]


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(list(LayerSource))), min_size=1, max_size=60))
def test_grouping_layers_loses_no_layer_and_no_byte(sizes: list[tuple[int, LayerSource]]) -> None:
    layers = [layer(f"deps/w{n}", size * MB, source) for n, (size, source) in enumerate(sizes)]
    nodes = of("node", Picture(project="p", stages=(box("deps", *layers),)))
    counts = [int(m[1]) if (m := re.match(r"(\d+) layers more", label)) else 1 for _, label, _ in nodes]
    assert sum(counts) == len(layers)
    for source in LayerSource:
        total = sum(float(re.search(r", ([\d.]+) MB\n", label)[1]) for _, label, kind in nodes if kind == source)  # type: ignore[index]
        assert total == sum((one.bytes or 0) / MB for one in layers if one.source is source)


def test_mermaid_keeps_hostile_names_inside_their_labels() -> None:
    picture = hostile()
    (node,) = of("node", picture)
    cut = format_source(picture.stages[0].layers[0])[:59]
    assert node[1].endswith(f"\n{cut}…") or node[1].endswith(f"\n{format_source(picture.stages[0].layers[0])}")
    assert "s0" in of("stage", picture)[0]


@given(st.text(max_size=40), st.text(max_size=40))
def test_mermaid_shows_any_text_unchanged(name: str, project: str) -> None:
    picture = Picture(project=project, stages=(box("s", layer(f"s/{name}", MB)), box(name)))
    assert of("node", picture) == [("s0l0", f"{format_name(name)}, 1.0 MB\nin local storage", "storage")]
    assert of("empty", picture) == [("s1", f"{format_name(name)}\nno layers of its own")]
