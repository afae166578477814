"""`nox -s graph`: stages and layers of a real project, before a build, after it, and after a change."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.e2e.tinyproject import Tiny, one_error

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]


def graph(tiny: Tiny, *arguments: str) -> str:
    """Return the standard output of the session."""
    argv = tiny.argv("graph", *arguments)
    done = subprocess.run(argv, cwd=tiny.folder, env=tiny.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stages(tiny: Tiny, *arguments: str) -> dict[str, Any]:
    return {stage["name"]: stage for stage in json.loads(graph(tiny, "--json", *arguments))["stages"]}


def sources(drawn: dict[str, Any]) -> dict[str, str]:
    return {layer["name"]: layer["source"] for stage in drawn.values() for layer in stage["layers"]}


def test_graph_before_the_first_build_shows_each_layer_once_as_to_be_built(tiny: Tiny) -> None:
    drawn = stages(tiny)
    assert list(drawn) == ["base", "deps", "models", "app", "tools"]
    assert {name: [layer["name"] for layer in stage["layers"]] for name, stage in drawn.items()} == {
        "base": ["base/image"],
        "deps": ["/opt/venv", "deps/bulk", "deps/bin-0", "deps/bin-1", "deps/bin-2"],
        "models": ["models/greeter", "models/speller"],
        "app": ["app/app"],
        "tools": ["tools/write", "tools/link"],
    }
    assert set(sources(drawn).values()) == {"built"}
    assert drawn["app"]["edges"] == [
        {"tie": "from", "stage": "base"},
        {"tie": "include", "stage": "deps"},
        {"tie": "include", "stage": "models"},
    ]
    assert drawn["app"]["ships"]
    assert drawn["app"]["image"]["layers"] == 9
    assert drawn["app"]["image"]["bytes"] is None  # nobody has seen the registry's image
    assert drawn["deps"]["layers"][1]["images"] == ["deps", "app", "tools"]
    assert tiny.blobs() == []
    assert tiny.images() == {}


def test_graph_after_a_change_marks_only_the_changed_layer_in_every_format(tiny: Tiny) -> None:
    built = tiny.build("app")
    whole = stages(tiny, "app")
    assert set(sources(whole).values()) == {"storage"}
    sizes = {layer["name"]: layer["bytes"] for stage in whole.values() for layer in stage["layers"]}
    assert all(sizes.values())
    assert sum(sizes.values()) == built.report["bytes"]["imported"] == whole["app"]["image"]["bytes"]
    assert "5 stages, 11 layers" in graph(tiny)
    assert "nothing to be built" in graph(tiny, "app")

    tiny.replace("stages/app/app/words.txt", "w", "W")
    changed = stages(tiny, "app")
    assert {name for name, source in sources(changed).items() if source != "storage"} == {"app/app"}
    (layer,) = changed["app"]["layers"]
    assert layer["source"] == "built"
    assert "words.txt" in layer["why"]

    svg = tiny.folder / "graph.svg"
    assert graph(tiny, "app", "--svg", str(svg)) == ""
    blocks = [
        (title, re.findall(r'fill="url\(#bk-(\w+)\)"', block))
        for title, block in re.findall(r'<g class="layer"><title>([^\n]*)(.*?)</g>', svg.read_text(), re.DOTALL)
    ]
    assert [title for title, fills in blocks if fills != ["storage"]] == ["app/app"]
    assert dict(blocks)["app/app"] == ["built"]
    assert len(blocks) == 9
    ET.parse(svg)

    flowchart = graph(tiny, "app", "--mermaid")
    assert flowchart.startswith("flowchart LR\n")
    assert re.findall(r'\["(\w+),[^"]*"\]:::built', flowchart) == ["app"]
    (line,) = [line for line in graph(tiny, "app").splitlines() if "to be built: " in line]
    assert line.startswith("└─ app")


def test_graph_shows_a_layer_as_to_be_built_if_any_image_builds_it_else_its_nearest_source(tiny: Tiny) -> None:
    tiny.build("deps", "--no-import")
    assert set(sources(stages(tiny, "deps")).values()) == {"cache"}
    tiny.build("app")
    assert set(sources(stages(tiny, "deps")).values()) == {"cache"}  # storage has no image of that stage
    both = stages(tiny, "app", "deps")
    assert set(sources(both).values()) == {"storage"}
    assert both["deps"]["image"]["import"] == both["deps"]["image"]["bytes"] > 0
    assert both["app"]["image"]["import"] == 0
    tiny.write("models/greeter/settings.txt", "other")
    (greeter,) = [x for x in stages(tiny, "app", "models")["models"]["layers"] if x["source"] == "built"]
    assert greeter["name"] == "models/greeter"
    assert "settings.txt" in greeter["why"], "app knows more than models, which was never built"


def test_graph_asks_a_remote_cache_only_if_named(tiny: Tiny, registry: str) -> None:
    repository = f"{registry}/graph/shared"
    tiny.build("deps", "--no-import", "--cache-write", repository)
    shutil.rmtree(tiny.cache)
    assert set(sources(stages(tiny, "deps")).values()) == {"built"}
    drawn = stages(tiny, "deps", "--cache", repository)
    assert set(sources(drawn).values()) == {"shared"}
    assert all(layer["bytes"] for layer in drawn["deps"]["layers"])
    assert tiny.blobs() == []


def test_graph_of_a_stage_shows_only_what_its_image_is_made_of(tiny: Tiny) -> None:
    assert list(stages(tiny, "deps")) == ["deps"]
    assert list(stages(tiny, "models", "base")) == ["base", "models"]
    tiny.write("stages/slim/stage.toml", 'summary = "layers alone"\ninclude = ["app"]\n')
    drawn = stages(tiny, "slim")
    assert list(drawn) == ["deps", "models", "app", "slim"]  # not base: only the layers of app are taken
    assert drawn["slim"]["layers"] == []
    assert drawn["app"]["image"] is None
    assert [edge["stage"] for edge in drawn["app"]["edges"]] == ["deps", "models"]
    assert "no layers of its own" in graph(tiny, "slim")
    tiny.write("stages/about/stage.toml", 'summary = "ships not"\nfrom = "base"\n')
    assert list(stages(tiny)) == ["base", "deps", "models", "app", "about", "slim", "tools"]  # what ships comes first


def test_graph_draws_a_layer_of_two_stages_in_the_first(tiny: Tiny) -> None:
    tiny.write("stages/again/stage.toml", 'summary = "the same"\n[wheels]\nlocks = ["requirements/app.txt"]\n')
    drawn = stages(tiny, "again", "deps")
    assert [layer["name"] for layer in drawn["again"]["layers"]] == [
        "/opt/venv", "again/bulk", "again/bin-0", "again/bin-1", "again/bin-2",
    ]  # fmt: skip
    assert {tuple(layer["images"]) for layer in drawn["again"]["layers"]} == {("again", "deps")}
    assert drawn["deps"]["layers"] == []
    assert drawn["deps"]["image"]["layers"] == 5


def test_graph_shows_the_builder_if_it_must_be_built(tiny: Tiny) -> None:
    tiny.replace("pyproject.toml", "bytecode = false", 'bytecode = true\nbytecode-root = "base"')
    drawn = stages(tiny, "deps")
    assert list(drawn) == ["base", "deps"]
    (root,) = drawn["base"]["layers"]
    assert root["images"] == []
    assert drawn["base"]["image"] is None
    assert "only helps to build" in graph(tiny, "deps")


def test_graph_refuses_impossible_requests_before_any_work(tiny: Tiny) -> None:
    assert "did you mean app?" in one_error(tiny.run("graph", "ap"), 2)
    assert "this file cannot be written" in one_error(tiny.run("graph", "--svg", "no/such/folder.svg"), 2)
    assert "not allowed with" in one_error(tiny.run("graph", "--mermaid", "--json"), 2)
    tiny.replace("stages/app/stage.toml", 'from = "base"', 'from = "bse"')
    message = one_error(tiny.run("graph", "deps"), 2)
    assert "stages/app/stage.toml: `from`: there is no stage `bse`" in message
    assert not tiny.blobs()
