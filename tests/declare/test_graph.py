"""The graph of stages: inheritance by `from` and `include`, unknown names and cycles."""

from __future__ import annotations

from pathlib import Path

import pytest
from stagegraphs import graph

from buildkit.declare.arguments import apply_arguments
from buildkit.declare.graph import Graph, load_graph, make_graph
from buildkit.declare.stage import Config, Healthcheck, Running, Stage
from buildkit.declare.stage_file import parse_stage
from buildkit.errors import DefinitionError

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, **texts: str | bytes) -> Path:
    for name, text in texts.items():
        path = folder / "stages" / name / "stage.toml"
        path.parent.mkdir(parents=True)
        path.write_bytes(text if isinstance(text, bytes) else f'summary = "{name}"\n{text}'.encode())
    return folder


def listing(folder: Path, text: bytes | None) -> Path:
    root = '[root]\nsuite = "x"\npackages = "p"\nexclude = ["a", "!usr/lib/b"]\nexclude-file = "kept.txt"'
    write(folder, top=root)
    if text is not None:
        (folder / "stages/top/kept.txt").write_bytes(text)
    return folder


def test_patterns_of_a_file_come_before_those_of_the_stage(tmp_path: Path) -> None:
    text = b"# made by a command\n\nusr/lib/**  # all of it\n  !usr/lib/c#d\n"
    debian = load_graph(listing(tmp_path, text)).get("top").debian
    assert debian is not None
    assert debian.exclude == ("usr/lib/**", "!usr/lib/c#d", "a", "!usr/lib/b")
    assert load_graph(tmp_path).read_files == ("stages/top/kept.txt",), "a copy of the checkout needs it"


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), (b"\xff", "is not UTF-8 text")])
def test_file_of_patterns_that_cannot_be_read_is_a_problem(tmp_path: Path, text: bytes | None, why: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        load_graph(listing(tmp_path, text))
    (problem,) = raised.value.problems
    assert (problem.file, problem.key) == ("stages/top/stage.toml", "root.exclude-file")
    assert "stages/top/kept.txt" in problem.what
    assert why in problem.what


_LOCK = '[models]\nlock = "models.lock"\n'


def test_stage_that_mounts_models_has_a_stage_of_them_and_hands_that_on() -> None:
    found = graph(weights=_LOCK, app='include = ["weights"]\nmodels = "mount"', more='from = "app"', baked=_LOCK)
    assert {name for name, stage in found.stages.items() if stage.models_of} == {"app-models", "more-models"}
    assert (found.resolve("more").models_stage, found.resolve("baked").models_stage) == ("more-models", "")
    assert names(found.resolve("app-models").parts) == ["weights"]
    without = graph(
        weights=_LOCK, app='include = ["weights"]\nmodels = "mount"', more='from = "app"\nmodels.mount = false'
    )
    assert without.resolve("more").models_stage == ""


@pytest.mark.parametrize(
    ("stages", "what"),
    [
        ({"app": 'models = "mount"'}, "there are no models to mount"),
        ({"app": f"{_LOCK}mount = true", "app-models": ""}, "would be `app-models`, and there is such a stage"),
        ({"app": 'models = "volume"'}, "must be a table or `mount`, not `volume`"),
        ({"app": '[models]\ntarget = "/x"'}, "is missing"),
        ({"app": "models = 3"}, "must be a table"),
        ({"app": f"{_LOCK}mount = 1"}, "must be true or false"),
    ],
)
def test_models_that_cannot_be_mounted_are_a_problem(tmp_path: Path, stages: dict[str, str], what: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        load_graph(write(tmp_path, **stages))
    (problem,) = raised.value.problems
    assert problem.key.startswith("models")
    assert what in str(problem)


def names(stages: tuple[Stage, ...]) -> list[str]:
    return [stage.name for stage in stages]


def test_from_inherits_root_layers_and_config_and_include_only_layers() -> None:
    found = graph(
        base='[root]\nsuite = "x"\npackages = "p"',
        tools='from = "base"\n[apt]\npackages = "q"',
        wheels='[wheels]\nlocks = ["w.txt"]',
        plain='from = "tools"\ninclude = ["wheels"]\n[config]\nuser = "u"',
        top='from = "plain"\n[[run]]\nscript = "x"',
        own='include = ["top"]\n[root]\nsuite = "y"\npackages = "r"',
    )
    top = found.resolve("top")
    assert names(top.chain) == ["base", "tools", "top"]
    assert names(top.parts) == ["base", "tools", "wheels", "plain", "top"]
    assert top.config.user == "u"
    own = found.resolve("own")
    assert names(own.chain) == ["own"]
    assert names(own.parts) == ["base", "tools", "wheels", "plain", "top", "own"]
    assert own.config == Config()
    assert names(found.resolve("wheels").chain) == []


def test_stage_included_twice_contributes_its_layers_once() -> None:
    found = graph(a="", b='include = ["a"]', c='include = ["a"]', d='from = "b"\ninclude = ["c", "a"]')
    assert names(found.resolve("d").parts) == ["a", "b", "c", "d"]


def test_running_comes_from_nearest_stage_or_defaults() -> None:
    low = '[running]\nmemory = "2g"\npids = 9'
    found = graph(low=low, high='from = "low"', top='from = "high"\n[running]\nmemory = "3g"', own='include = ["low"]')
    assert found.resolve("high").running == Running(memory="2g", pids=9)
    assert found.resolve("top").running == Running(memory="3g")
    assert found.resolve("own").running == Running()


def test_used_arguments_come_from_the_stages_along_from_alone() -> None:
    label = '[args]\nA = "1"\n[config]\nlabels = { a = "${A}" }'
    stages = graph(low=label, side=label, top=f'from = "low"\ninclude = ["side"]\n{label}').stages
    found = Graph(stages=apply_arguments(stages, {"A": "2"}, {}, None))
    assert found.resolve("top").args == {"low": (("A", "2"),), "top": (("A", "2"),)}


def test_config_is_merged_along_from() -> None:
    found = graph(
        low="""
        [config]
        user = "u"
        cmd = ["a"]
        env = { A = "1", B = "1" }
        labels = { x = "1", y = "1" }
        ports = ["80", "81"]
        volumes = ["/a"]
        healthcheck = { test = ["t"] }
        """,
        high="""
        from = "low"
        [config]
        cmd = ["b"]
        env = { B = "2", C = "2" }
        labels = { y = "2" }
        ports = ["81", "82"]
        volumes = ["/b"]
        stop-signal = "SIGINT"
        """,
    )
    assert found.resolve("high").config == Config(
        user="u",
        cmd=("b",),
        env=(("A", "1"), ("B", "2"), ("C", "2")),
        labels=(("x", "1"), ("y", "2")),
        ports=("80", "81", "82"),
        volumes=("/a", "/b"),
        stop_signal="SIGINT",
        healthcheck=Healthcheck(test=("t",)),
    )
    assert found.resolve("low").config.cmd == ("a",)


def test_all_unknown_stages_are_reported_with_similar_names() -> None:
    with pytest.raises(DefinitionError) as caught:
        graph(base="", runtime='from = "bases"\ninclude = ["zzz"]')
    found = [(p.file, p.key, p.what, p.hint) for p in caught.value.problems]
    assert found == [
        ("stages/runtime/stage.toml", "from", "there is no stage `bases`", "did you mean `base`?"),
        ("stages/runtime/stage.toml", "include", "there is no stage `zzz`", "stages are base, runtime"),
    ]


def test_getting_an_unknown_stage_suggests_a_similar_name() -> None:
    with pytest.raises(DefinitionError, match="there is no stage `runtme`") as caught:
        graph(runtime="").resolve("runtme")
    assert caught.value.hint == "did you mean `runtime`?"


@pytest.mark.parametrize(
    ("texts", "loops"),
    [
        ({"a": 'from = "a"'}, ["a → a"]),
        ({"a": 'from = "b"', "b": 'include = ["a"]'}, ["a → b → a"]),
        ({"x": 'from = "a"', "a": 'include = ["b", "c"]', "b": "", "c": 'from = "a"'}, ["a → c → a"]),
        (
            {"a": 'from = "b"', "b": 'from = "a"', "c": 'include = ["d"]', "d": 'include = ["c"]'},
            ["a → b → a", "c → d → c"],
        ),
    ],
)
def test_inheritance_cycles_are_reported(texts: dict[str, str], loops: list[str]) -> None:
    with pytest.raises(DefinitionError) as caught:
        graph(**texts)
    assert [p.what for p in caught.value.problems] == [
        f"stages inherit from each other in a cycle: {loop}" for loop in loops
    ]


def test_cycle_and_unknown_stage_are_reported_together() -> None:
    with pytest.raises(DefinitionError) as caught:
        graph(a='from = "a"', b='from = "zzz"')
    assert [p.what for p in caught.value.problems] == [
        "there is no stage `zzz`",
        "stages inherit from each other in a cycle: a → a",
    ]


def test_the_problems_of_every_file_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path, a="frm = 1", b="x =", c=b"\xff", d='from = "zz"', e="")
    with pytest.raises(DefinitionError) as caught:
        load_graph(tmp_path)
    assert [(p.file, p.key) for p in caught.value.problems] == [
        ("stages/a/stage.toml", "frm"),
        ("stages/b/stage.toml", ""),
        ("stages/c/stage.toml", ""),
        ("stages/d/stage.toml", "from"),
    ]
    assert caught.value.exit_code == 2


def test_stage_with_invalid_file_is_not_reported_as_unknown(tmp_path: Path) -> None:
    write(tmp_path, base="typo = 1", runtime='from = "base"')
    with pytest.raises(DefinitionError) as caught:
        load_graph(tmp_path)
    assert [p.key for p in caught.value.problems] == ["typo"]


def test_error_of_a_project_without_stages_names_their_folder(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"no stages: .*/stages holds no NAME/stage\.toml"):
        load_graph(tmp_path)


def test_the_repositorys_own_stages_load_in_order() -> None:
    found = load_graph(ROOT)
    assert list(found.stages) == sorted(found.stages)
    runtime, hardened = found.resolve("runtime"), found.resolve("hardened")
    assert names(runtime.chain) == ["base"]
    assert names(hardened.chain) == ["hardened"]
    assert set(names(runtime.parts)) < set(names(hardened.parts))
    assert found.resolve("development").config.ports == ("8000", "8888", "5678")


def test_own_entrypoint_drops_inherited_command() -> None:
    below = parse_stage('summary = "x"\n[config]\nentrypoint = ["a"]\ncmd = ["b"]\n', name="below", file="below")
    above = 'summary = "x"\nfrom = "below"\n[config]\nentrypoint = ["c"]\n'
    graph = make_graph({"below": below, "above": parse_stage(above, name="above", file="above")})
    config = graph.resolve("above").config
    assert (config.entrypoint, config.cmd) == (("c",), ())
