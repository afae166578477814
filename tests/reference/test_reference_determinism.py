"""Another checkout, at another place, under another umask, time zone, locale and home: the same digests."""

from __future__ import annotations

import os

import pytest

from tests.reference.builds import Build, build, copy_project, make_cache
from tests.reference.conftest import Project

pytestmark = [pytest.mark.tools, pytest.mark.network]

STAGES = ("base", "wheels", "ml-deps", "clients", "models", "runtime", "hardened")


@pytest.fixture(scope="module")
def elsewhere(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Build]:
    """The builds of a copy, from nothing but downloads; local storage is left alone."""
    there = tmp_path_factory.mktemp("elsewhere")
    folder = copy_project(there / "another place")
    cache = make_cache(there / "cache", downloads=project.cache)
    (there / "home").mkdir()
    env = dict(os.environ) | {
        "HOME": str(there / "home"), "TZ": "Pacific/Kiritimati", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1234567890", "USER": "somebody",
    }  # fmt: skip
    return {
        stage: build(stage, cache, "--no-import", "--jobs", "1", folder=folder, env=env, umask=0o077)
        for stage in STAGES
    }


@pytest.mark.parametrize("stage", STAGES)
def test_second_build_has_the_same_digest(project: Project, elsewhere: dict[str, Build], stage: str) -> None:
    def facts(made: Build) -> dict[str, tuple[str, ...]]:
        return {name: (x["key"], x["diff_id"]) for name, x in made.layers.items()}

    def digests(made: Build) -> dict[str, str]:
        """Return the digests of blobs; a layer of the image store has none before it is pushed."""
        return {name: x["digest"] for name, x in made.layers.items() if x["digest"]}

    first, second = project.builds[stage], elsewhere[stage]
    assert facts(second) == facts(first)
    both = digests(first).keys() & digests(second).keys()
    assert {name: digests(first)[name] for name in both} == {name: digests(second)[name] for name in both}
    assert elsewhere[stage].report["digest"] == project.builds[stage].report["digest"]


def test_second_build_built_every_layer(elsewhere: dict[str, Build]) -> None:
    made = set().union(*(one.built for one in elsewhere.values()))
    keys = {one.layers[name]["key"] for one in elsewhere.values() for name in one.built}
    assert keys == {layer["key"] for one in elsewhere.values() for layer in one.layers.values()}
    assert {"base/root", "hardened/root", "runtime/app", "models/silero-vad", "ml-deps/numpy"} <= made


def test_stages_reuse_layers_of_each_other(elsewhere: dict[str, Build]) -> None:
    assert elsewhere["runtime"].built == {"runtime/app", "runtime/xoe_runtime"}
    assert elsewhere["hardened"].built == {"hardened/root", "hardened/sbom"}


def test_second_build_reused_downloads(elsewhere: dict[str, Build]) -> None:
    assert sum(one.report["bytes"]["fetched"] for one in elsewhere.values()) == 0
