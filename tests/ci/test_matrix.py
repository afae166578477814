"""``nox -s matrix``: which stages need work, in which order, and what CI systems can read of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from buildkit.build.planner import Planner
from buildkit.declare.graph import Graph
from buildkit.declare.project import Project
from buildkit.digest import Key
from buildkit.inspection.matrix import Matrix, arrange_waves, find_work
from buildkit.plan.compose import Composer
from tests.e2e.tinyproject import Tiny
from tests.plan.planfakes import STAGES, base_checkout, composer, make_graph_of, wheel

# --- what needs work ------------------------------------------------------------------------------------------------


@dataclass
class FakeSharing:
    """A remote cache that has some keys."""

    has: set[Key]
    asked: list[Key] = field(default_factory=list)

    def find_records(self, _stage: str, keys: Iterable[Key]) -> dict[Key, object]:
        wanted = list(keys)
        self.asked += wanted
        return {key: object() for key in wanted if key in self.has}


@dataclass
class FakeShop:
    project: Project
    remote_cache: FakeSharing
    wheels: set[Key]

    @property
    def files(self) -> FakeShop:
        return self

    def find_wheel(self, key: Key) -> object:
        return key if key in self.wheels else None


class FakePlanner:
    """A planner whose caches hold only the given layers, or all except the missing ones."""

    def __init__(self, stages: Mapping[str, str] = STAGES, settings: str = "", checkout: Any = None) -> None:
        self.graph: Graph = make_graph_of(dict(stages))
        self.composer: Composer = composer(dict(stages), checkout or base_checkout(), settings)
        self.here: set[Key] = set()
        self.context = FakeShop(self.composer._project, FakeSharing(set()), set())

    def keys(self, *names: str) -> set[Key]:
        specs = [spec for stage in self.graph.stages for spec in self.composer.compose(stage).specs]
        found = {spec.key for spec in specs if spec.name in names}
        assert len(found) == len(names), [spec.name for spec in specs]
        return found

    def every(self) -> set[Key]:
        return {spec.key for stage in self.graph.stages for spec in self.composer.compose(stage).specs}

    def lookup(self, keys: Iterable[Key]) -> dict[Key, object]:
        return {key: object() for key in keys if key in self.here}

    def waves(self, *images: str, only_shared: bool = False, most: int = 0) -> list[list[str]]:
        work = find_work(cast("Planner", self), images, only_shared=only_shared)
        return [list(wave) for wave in arrange_waves(work.needs, most=most, keep=images)]


def test_empty_cache_puts_roots_and_tools_into_the_first_waves() -> None:
    assert FakePlanner().waves("runtime") == [["base", "weights"], ["builder"], ["deps"], ["runtime"]]


def test_no_stage_waits_for_a_root_without_bytecode_and_sdists() -> None:
    checkout = base_checkout()
    checkout.wheels["deps.txt"] = (wheel("light"),)
    planner = FakePlanner(settings="bytecode = false", checkout=checkout)
    assert planner.waves("runtime") == [["base", "deps", "weights"], ["runtime"]]


def test_only_the_stage_that_owns_a_missing_layer_needs_work() -> None:
    planner = FakePlanner(STAGES | {"small": 'summary = "s"\ninclude = ["runtime"]\n'})
    planner.here = planner.every() - planner.keys("runtime/app")
    assert planner.waves("runtime", "small") == [["runtime"]]
    assert planner.waves("small") == [["runtime"]], "whose layer it is, though its image is not asked for"
    planner.here = planner.every()
    assert planner.waves("runtime", "small") == []


def test_stage_waits_for_its_grandparent_if_its_parent_needs_no_work() -> None:
    planner = FakePlanner(STAGES | {"top": 'summary = "t"\nfrom = "runtime"\n[[run]]\nscript = "true"\n'})
    planner.here = planner.every() - planner.keys("weights/vad", "top/true")
    assert planner.waves("top") == [["weights"], ["top"]]


def test_builder_needs_work_for_wheels_that_must_be_compiled() -> None:
    planner = FakePlanner()
    builder = {spec.key for spec in planner.composer.builder.root[1:]}
    (compiled,) = [s for s in planner.composer.compose("deps").specs if getattr(s.work, "compiled", ())]
    planner.here = planner.every() - builder
    assert planner.waves("runtime") == [], "the builder is no part of the image"
    planner.here -= {compiled.key}
    assert planner.waves("runtime") == [["builder"], ["deps"]]
    planner.context.wheels = {compiled.work.compiled[0].key}  # type: ignore[union-attr]
    assert planner.waves("runtime") == [["deps"]]
    planner.context.remote_cache.has = planner.here
    assert planner.waves("runtime", only_shared=True) == [["builder"], ["deps"]], "a wheel that is here is not there"


def test_bytecode_root_needs_work_for_wheels() -> None:
    stages = STAGES | {
        "python": 'summary = "p"\n[root]\nsuite = "trixie"\npackages = "builder.apt"\n',
        "slim": 'summary = "s"\ninclude = ["deps"]\n',
    }
    planner = FakePlanner(stages, settings='bytecode-root = "python"')
    planner.here = planner.every() - planner.keys("python/root")
    assert planner.waves("slim") == []
    planner.here -= planner.keys("deps/heavy")
    assert planner.waves("slim") == [["python"], ["deps"]]


def test_tools_that_depend_on_their_own_output_form_no_circle() -> None:
    stages = STAGES | {
        "base": STAGES["base"] + '[wheels]\nlocks = ["own.txt"]\n',
        "python": 'summary = "p"\nfrom = "base"\n[[run]]\nscript = "true"\n',
    }
    checkout = base_checkout()
    checkout.wheels["own.txt"] = (wheel("thin"),)
    checkout.wheels["deps.txt"] = (wheel("light"),)
    planner = FakePlanner(stages, settings='bytecode-root = "python"', checkout=checkout)
    assert planner.waves("runtime") == [["base", "weights"], ["python"], ["deps"], ["runtime"]]


def test_remote_cache_is_queried_only_for_layers_missing_here() -> None:
    planner = FakePlanner()
    planner.here = planner.keys("base/root", "weights/vad", "weights/vad/big.bin")
    planner.context.remote_cache.has = planner.every() - planner.here - planner.keys("runtime/conf")
    assert planner.waves("runtime") == [["runtime"]]
    assert not planner.here & set(planner.context.remote_cache.asked)
    assert planner.waves("runtime", only_shared=True) == [["base", "weights"], ["runtime"]]


@pytest.mark.parametrize(
    ("most", "waves"),
    [
        (0, [["base"], ["builder", "roots"], ["wheels"], ["app"], ["slim"]]),
        (5, [["base"], ["builder", "roots"], ["wheels"], ["app"], ["slim"]]),
        (4, [["base"], ["builder", "roots"], ["wheels"], ["app", "slim"]]),
        (3, [["base"], ["builder", "roots"], ["app", "slim"]]),
        (2, [["base"], ["app", "roots", "slim"]]),
        (1, [["app", "roots", "slim"]]),
    ],
)
def test_stages_beyond_the_last_wave_are_built_by_their_dependents(most: int, waves: list[list[str]]) -> None:
    needs = {
        "base": (),
        "builder": ("base",),
        "roots": ("base",),
        "wheels": ("base", "builder"),
        "app": ("base", "wheels"),
        "slim": ("app", "base", "wheels"),
    }
    assert [list(wave) for wave in arrange_waves(needs, most=most, keep=("app", "slim"))] == waves


def test_waves_end_for_stages_that_need_each_other() -> None:
    assert arrange_waves({"a": ("b",), "b": ("a",), "c": ("a",)}) == (("b",), ("a",), ("c",))
    assert arrange_waves({}) == ()
    assert arrange_waves({}, most=3) == ()


def test_gitlab_pipeline_has_no_job_for_an_empty_wave() -> None:
    found = YAML(typ="safe", pure=True).load(Matrix(waves=(), images=("a",)).as_gitlab())
    assert found == {
        "stages": ["test"],
        "test": {"extends": ".image-test", "stage": "test", "parallel": {"matrix": [{"STAGE": ["a"]}]}},
    }


# --- the session ----------------------------------------------------------------------------------------------------


def run(tiny: Tiny, *arguments: str, code: int = 0, **env: str) -> tuple[str, str]:
    """Run the session; return its standard output and standard error."""
    done = subprocess.run(
        tiny.argv("matrix", *arguments), cwd=tiny.folder, env=tiny.env | env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def stages(text: str) -> list[list[str]]:
    """Return the waves of a matrix, which must be one line in the form that GitHub reads."""
    assert text.count("\n") == 1
    value = json.loads(text)
    assert value.keys() == {"waves", "images"}
    for matrix in (*value["waves"], value["images"]):
        assert matrix.keys() == {"include"}
        assert matrix["include"], "GitHub refuses an empty matrix"
        assert all(item.keys() == {"stage"} for item in matrix["include"])
    assert value["images"] == {"include": [{"stage": "app"}]}
    return [[item["stage"] for item in wave["include"]] for wave in value["waves"]]


@pytest.mark.tools
def test_stage_needs_work_only_if_a_layer_is_neither_here_nor_in_the_remote_cache(tiny: Tiny, registry: str) -> None:
    cache = f"{registry}/matrix"
    first, errors = run(tiny)
    assert stages(first) == [["base", "deps", "models"], ["app"]]
    assert "wave 2: app: 1 layer to build: app/app" in errors
    assert not list(tiny.cache.glob("sha256/*")), "nothing is built"
    done = tiny.run("push-app", f"{cache}:app", "--cache-write", cache)
    assert done.code == 0, done.text

    nothing, errors = run(tiny)
    assert stages(nothing) == []
    assert "nothing to build" in errors
    elsewhere = str(tiny.folder / "other")
    assert stages(run(tiny, BUILDKIT_CACHE=elsewhere)[0]) != [], "no cache is asked that is not named"
    assert stages(run(tiny, "--cache", cache, BUILDKIT_CACHE=elsewhere)[0]) == []

    tiny.replace("stages/app/app/words.txt", "w", "W")
    assert stages(run(tiny, "--cache", cache, BUILDKIT_CACHE=elsewhere)[0]) == [["app"]]
    assert tiny.run("build-app", "--no-import").code == 0
    assert stages(run(tiny, "--cache", cache)[0]) == []
    assert stages(run(tiny, "--cache", cache, "--only-shared")[0]) == [["app"]], "it is here alone"
    tiny.replace("pyproject.toml", "[tool.buildkit]", f'[tool.buildkit]\ncache = "{cache}"')
    assert stages(run(tiny, "--only-shared", "app")[0]) == [["app"]]


@pytest.mark.tools
def test_unreachable_remote_cache_is_reported_and_everything_needs_work(tiny: Tiny) -> None:
    text, errors = run(tiny, "--cache", "127.0.0.1:1/none", "--only-shared")
    assert stages(text) == [["base", "deps", "models"], ["app"]]
    assert errors.count("remote cache: 127.0.0.1:1: looking up") == 1
    assert "connection refused" in errors


@pytest.mark.tools
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("ap",), "there is no stage `ap`"),
        (("--only-shared",), "--only-shared: there is no remote cache"),
        (("--waves", "0"), "--waves: must be a number from 1 on"),
        (("--cache", "No Such/Name"), "is not a name in a registry"),
    ],
)
def test_wrong_usage_prints_no_matrix(tiny: Tiny, arguments: tuple[str, ...], what: str) -> None:
    text, errors = run(tiny, *arguments, code=2)
    assert text == ""
    assert what in errors
    assert "hint: " in errors
