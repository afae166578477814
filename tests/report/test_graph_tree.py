"""The picture on a terminal: a tree that reads the same with and without colours."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from buildkit.plan.plan import LayerSource
from buildkit.report.graph_tree import render_tree
from buildkit.report.live import print_lines
from buildkit.report.stage_graph import Picture
from tests.report.pictures import MB, box, hostile, layer, service


def plain(picture: Picture) -> str:
    return "\n".join("".join(text for text, _ in line).rstrip() for line in render_tree(picture))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_tree_matches_the_expected_text() -> None:
    assert plain(service()) == (
        "speech: 4 stages, 6 layers, 1.1 GB; 1 layer to be built (60.2 kB)\n"
        "\n"
        "base  image of 1 layer, 118 MB\n"
        "└─ root         118 MB  ███▏                      in local storage\n"
        "\n"
        "deps  image of 4 layers, 961 MB\n"
        "├─ /opt/venv    7.7 kB  ▏                         in local storage\n"
        "├─ torch        900 MB  ████████████████████████  in the cache\n"
        "├─ numpy       60.0 MB  █▋                        in the remote cache\n"
        "└─ bin-1        1.0 MB  ▏                         in the cache\n"
        "   this image: 3 layers to import (961 MB)\n"
        "\n"
        "app  ships; from base; includes deps; image of 1 layer, 60.2 kB\n"
        "└─ app         60.2 kB  ▒                         to be built: main.py changed\n"
        "\n"
        "debug  from app; image of 0 layers, 0 B\n"
        "└─ no layers of its own"
    )


def test_image_of_the_store_is_unpacked_and_not_imported() -> None:
    picture = service()
    stages = [replace(x, image=replace(x.image, unpacks=True)) if x.image else x for x in picture.stages]
    text = plain(replace(picture, stages=tuple(stages)))
    assert "this image: 3 layers to unpack (961 MB)" in text
    assert "import" not in text


def test_tree_groups_many_layers_by_source() -> None:
    layers = [
        layer(f"deps/w{n:02}", (n + 1) * MB, LayerSource.CACHE if n % 2 else LayerSource.STORAGE) for n in range(60)
    ]
    layers.append(layer("deps/tiny", 1000, LayerSource.BUILT, "why"))
    text = plain(Picture(project="p", stages=(box("deps", *layers, asked=False),)))
    rows = [line.split() for line in text.splitlines()[3:]]
    assert [row[1] for row in rows] == [*(f"w{n}" for n in range(49, 60)), "tiny", "24", "25"]
    assert [" ".join(row[1:6]) for row in rows[-2:]] == ["24 layers more 600 MB", "25 layers more 625 MB"]
    assert sum(n + 1 for n in range(49)) == 600 + 625
    lengths = [len(row[4 if row[2] != "layers" else 6]) for row in rows]
    assert lengths == [2] * 4 + [3] * 7 + [1, 23, 24]  # bars are as long as bytes are many, also those of folded layers


def test_tree_shows_helper_stages_and_unknown_sizes() -> None:
    helper = layer("base/root", None, LayerSource.BUILT, "first build", images=())
    text = plain(Picture(project="p", stages=(box("base", helper, asked=False),)))
    assert "base  only helps to build" in text
    assert text.splitlines()[-1].split() == ["└─", "root", "?", "to", "be", "built:", "first", "build"]


def test_tree_in_a_pipe_has_no_colours_and_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    out = io.StringIO()
    print_lines(render_tree(service()), out)
    assert [line.rstrip() for line in out.getvalue().splitlines()] == plain(service()).splitlines()


def test_tree_on_a_terminal_has_colours_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    print_lines(render_tree(service()), out)
    assert "\x1b[1;33mto be built: main.py changed\x1b[0m" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    print_lines(render_tree(service()), out)
    assert "\x1b[1;33m" not in out.getvalue()


def test_tree_removes_escapes_in_hostile_names() -> None:
    out = Terminal()
    print_lines(render_tree(hostile()), out)
    assert "\x1b[31m" not in out.getvalue()
    assert "\x00" not in out.getvalue()
    assert "[b onload" not in out.getvalue()
