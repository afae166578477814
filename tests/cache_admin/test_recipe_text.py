"""Every kind of recipe is described; unknown parts are shown as JSON."""

from __future__ import annotations

import json

from buildkit.cache_admin.recipe_text import describe_recipe
from tests.plan.planfakes import STAGES, composer


def lines_of(name: str) -> list[str]:
    made = composer()
    specs = {spec.name: spec for stage in STAGES for spec in made.compose(stage).specs}
    return describe_recipe(specs[name].recipe)


def test_root_recipe_is_described() -> None:
    assert lines_of("base/root") == [
        "a root of Debian trixie (minbase, amd64) with 2 packages",
        "  libc6=2.41",
        "  python3.13=3.13.5",
        "user ml (1000:1000), home /home/ml, shell /usr/sbin/nologin",
        "without usr/share/man/**",
        "bytecode: true",
        'components: ["main"]',
    ]


def test_step_recipe_is_described() -> None:
    first, *rest = lines_of("builder/prepare")
    assert first.startswith("a command run without network on the root of key ")
    assert rest == ["  /bin/sh -eu -c", "  | true", "with A=1", "with 1 file of the repository at /mnt"]


def test_wheels_recipe_is_described() -> None:
    heavy = lines_of("deps/heavy")
    assert heavy[0] == "wheels installed into /opt/venv for /usr/bin/python3.13 (Python 3.13), with bytecode"
    assert heavy[1].startswith("  heavy 1.0 (sha256 ")
    made = composer()
    (native,) = (spec for spec in made.compose("deps").specs if '"native"' in spec.recipe)
    (item,) = native.work.compiled  # type: ignore[union-attr]
    assert describe_recipe(native.recipe)[1] == f"  native 1.0 (compiled here as {item.key.short})"
    first, *rest = describe_recipe(item.recipe)
    assert first == f"a wheel of native, compiled from its sdist, sha256 {item.artifact.sha256.short}"
    assert "with CFLAGS=-O2" in rest


def test_files_models_and_prefix_recipes_are_described() -> None:
    assert lines_of("runtime/app") == [
        "2 files of the repository at /app",
        "  main.py",
        "  run.sh (executable)",
    ]
    assert lines_of("weights/vad/big.bin")[0] == "1 file of a model at /models/vad"
    assert lines_of("/opt/venv") == ["an empty virtual environment /opt/venv of /usr/bin/python3.13 (Python 3.13)"]


def test_image_recipe_is_described() -> None:
    recipe = {"format": 1, "kind": "image", "image": "r/x@sha256:0", "arch": "amd64"}
    assert describe_recipe(json.dumps(recipe)) == ["an image of a registry, for amd64", "  r/x@sha256:0"]


def test_links_and_unknown_parts_of_a_recipe_are_shown() -> None:
    recipe = {"format": 9, "kind": "files", "target": "/x", "files": [["a", "link", "b"]], "more": "x" * 200}
    first, second, third = describe_recipe(json.dumps(recipe))
    assert (first, second) == ("1 file of the repository at /x", "  a → b")
    assert third.startswith('more: "xxx')
    assert len(third) < 100
    assert describe_recipe('{"format": 1, "kind": "moon", "phase": 3}') == ["moon of an unknown kind", "phase: 3"]
