"""Every input changes exactly the keys that depend on it, and nothing else changes a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planfakes import STAGES, FakeCheckout, base_checkout, composer, keys, model_file, sdist, tree_file, wheel

from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import AptPin
from buildkit.plan.packing import bin_of

LIGHT, THIN, NATIVE = (f"deps/bin-{bin_of(name, 8)}" for name in ("light", "thin", "native"))
ROOTED = {"base/root"}
COMPILED = {NATIVE}
WHEELS = {"deps/heavy", LIGHT, THIN, NATIVE}
FILES = {"runtime/app", "runtime/conf"}
MODELS = {"weights/vad", "weights/vad/big.bin"}
ALL = ROOTED | WHEELS | FILES | MODELS | {"/opt/venv"}
BEFORE = keys(composer().compose("runtime"))


def test_the_project_has_one_of_everything() -> None:
    assert set(BEFORE) == ALL
    assert len({LIGHT, THIN, NATIVE}) == 3


def test_every_kind_of_layer_has_its_golden_key() -> None:
    assert {name: key[:12] for name, key in BEFORE.items()} == {
        "base/root": "a68511eed6c4",
        "/opt/venv": "dc2d33920d23",
        "deps/heavy": "1164ee36942e",
        "weights/vad/big.bin": "a9e8d4dcfbd1",
        "deps/bin-0": "215d86a7bbc6",
        "deps/bin-4": "6f6a4d2c84c6",
        "deps/bin-5": "2163d376a84d",
        "weights/vad": "35ba4ae32693",
        "runtime/app": "006193711ba4",
        "runtime/conf": "0eabf201b61b",
    }


def test_only_the_layer_of_pip_has_a_format_of_its_own() -> None:
    checkout = base_checkout()
    _add(wheel("pip", "26.3", 2 << 20))(checkout)
    specs = composer(checkout=checkout).compose("runtime").specs
    assert changed({spec.name: spec.key.hex for spec in specs}) == {"deps/pip"}
    recipes = {spec.name: json.loads(spec.recipe) for spec in specs}
    assert recipes["deps/pip"]["wheels"][0]["format"] == "2"
    assert not any("format" in row for name in WHEELS for row in recipes[name]["wheels"])


def changed(after: dict[str, str]) -> set[str]:
    return {name for name in BEFORE.keys() | after.keys() if BEFORE.get(name) != after.get(name)}


# a change to a stage's text, and the layers of `runtime` whose keys it moves
TEXTS: dict[str, tuple[str, str, str, set[str]]] = {
    "suite": ("base", '"trixie"', '"forky"', ROOTED | COMPILED),
    "exclude": ("base", "man/**", "man/*", ROOTED | COMPILED),
    "user": ("base", "uid = 1000", "uid = 1001", ROOTED | COMPILED),
    "a user more": ("base", "uid = 1000", 'uid = 1000\nhome = "/x"', ROOTED | COMPILED),
    "variant": ("base", "[root]", '[root]\nvariant = "apt"', ROOTED | COMPILED),
    "components": ("base", "[root]", '[root]\ncomponents = ["main", "x"]', ROOTED | COMPILED),
    "setuid": ("base", "[root]", "[root]\ndrop-setuid = true", ROOTED | COMPILED),
    "a step's script": ("builder", '"true"', '"false"', COMPILED),
    "a step's environment": ("builder", 'A = "1"', 'A = "2"', COMPILED),
    "a step's network": ("builder", 'script = "true"', 'script = "true"\nnetwork = true', COMPILED),
    "a step's secrets": ("builder", 'script = "true"', 'script = "true"\nsecrets = ["token"]', COMPILED),
    "a step's mount": ("builder", '"/mnt"', '"/srv"', COMPILED),
    "the builder's environment": ("builder", "-O2", "-O3", COMPILED),
    "the models' folder": ("weights", "[models]", '[models]\ntarget = "/m"', MODELS),
    "a target": ("runtime", '"/app"', '"/srv/app"', {"runtime/app"}),
    "a summary": ("runtime", 'summary = "runtime"', 'summary = "other"', set()),
    "the config": ("runtime", 'cmd = ["run"]', 'cmd = ["go"]', set()),
    "the name of a step": ("builder", '"prepare"', '"get ready"', set()),
}


@pytest.mark.parametrize("what", TEXTS)
def test_change_of_a_stage_file_changes_the_expected_keys(what: str) -> None:
    stage, old, new, expected = TEXTS[what]
    assert STAGES[stage].count(old) == 1
    after = keys(composer(STAGES | {stage: STAGES[stage].replace(old, new)}).compose("runtime"))
    assert changed(after) == expected


def _apt(name: str, *pins: AptPin) -> Callable[[FakeCheckout], None]:
    return lambda checkout: checkout.apts.update({name: pins})


def _swap(old: str, new: object) -> Callable[[FakeCheckout], None]:
    def edit(checkout: FakeCheckout) -> None:
        kept = (new if artifact.name == old else artifact for artifact in checkout.wheels["deps.txt"])
        checkout.wheels["deps.txt"] = tuple(kept)  # type: ignore[arg-type]

    return edit


def _add(artifact: object) -> Callable[[FakeCheckout], None]:
    return lambda checkout: checkout.wheels.update({"deps.txt": (*checkout.wheels["deps.txt"], artifact)})  # type: ignore[dict-item]


def _file(tree: str, *files: object) -> Callable[[FakeCheckout], None]:
    return lambda checkout: checkout.trees.update({tree: files})  # type: ignore[dict-item]


def _model(**changes: object) -> Callable[[FakeCheckout], None]:
    return lambda checkout: checkout.locked.update(
        {"models.lock": (replace(checkout.locked["models.lock"][0], **changes),)}  # type: ignore[arg-type]
    )


LIBC, PYTHON = AptPin(name="libc6", version="2.41"), AptPin(name="python3.13", version="3.13.5")
MAIN, RUN = tree_file("main.py"), tree_file("run.sh", executable=True)
APP = "stages/runtime/app"
INPUTS: dict[str, tuple[Callable[[FakeCheckout], None], set[str]]] = {
    "libc": (_apt("base.apt", replace(LIBC, version="2.42"), PYTHON), ROOTED | COMPILED),
    "python": (_apt("base.apt", LIBC, replace(PYTHON, version="3.13.6")), ROOTED | WHEELS),
    "a compiler": (_apt("builder.apt", AptPin(name="gcc", version="15")), COMPILED),
    "a mounted file": (_file("tools", tree_file("t.sh", "new")), COMPILED),
    "a heavy wheel": (_swap("heavy", wheel("heavy", "2.0", 5 << 20)), {"deps/heavy"}),
    "a light wheel": (_swap("light", wheel("light", "2.0")), {LIGHT}),
    "a light wheel more": (_add(wheel("light2")), {f"deps/bin-{bin_of('light2', 8)}"}),
    "an sdist": (_swap("native", sdist("native", "2.0")), {NATIVE}),
    "a file's content": (_file(APP, replace(MAIN, sha256=tree_file("y").sha256), RUN), {"runtime/app"}),
    "a file's mode": (_file(APP, replace(MAIN, executable=True), RUN), {"runtime/app"}),
    "a file's name": (_file(APP, replace(MAIN, path="app.py"), RUN), {"runtime/app"}),
    "a link for a file": (_file(APP, replace(MAIN, link="run.sh"), RUN), {"runtime/app"}),
    "a file more": (_file(APP, MAIN, tree_file("n.py"), RUN), {"runtime/app"}),
    "a large model file": (
        _model(files=(model_file("big.bin", 9 << 20, "new"), model_file("a.json"), model_file("b.json"))),
        {"weights/vad/big.bin"},
    ),
    "a small model file": (
        _model(files=(model_file("big.bin", 9 << 20), model_file("a.json", 1000, "new"), model_file("b.json"))),
        {"weights/vad"},
    ),
    "a model's folder": (_model(name="vad2"), MODELS | {"weights/vad2", "weights/vad2/big.bin"}),
    "a model's version, license and source": (_model(version="4", license="X", source=RepoSource(path="n")), set()),
    "the size of a file": (_file(APP, replace(MAIN, size=7), RUN), set()),
}


@pytest.mark.parametrize("what", INPUTS)
def test_change_of_locks_or_trees_changes_the_expected_keys(what: str) -> None:
    edit, expected = INPUTS[what]
    checkout = base_checkout()
    edit(checkout)
    assert changed(keys(composer(checkout=checkout).compose("runtime"))) == expected


SETTINGS: dict[str, tuple[str, set[str]]] = {
    "prefix": ("prefix = '/srv/env'", WHEELS | {"/opt/venv", "/srv/env"}),
    "interpreter": ("interpreter = '/usr/local/bin/python'", WHEELS | {"/opt/venv"}),
    "site-packages": ("site-packages = 'system'", {"/opt/venv"}),
    "python": ("python = '3.12'\ninterpreter = '/usr/bin/python3.13'", WHEELS | {"/opt/venv"}),
    "python's patch release": ("python = '3.13.9'", {"/opt/venv"}),
    "bytecode": ("bytecode = false", WHEELS | ROOTED),
    "labels": ("labels = { a = 'b' }", set()),
    "max-layers": ("max-layers = 99", set()),
    "locker": ("locker = 'pip-tools'", set()),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_change_of_a_setting_changes_the_expected_keys(what: str) -> None:
    text, expected = SETTINGS[what]
    assert changed(keys(composer(settings=text).compose("runtime"))) == expected


def test_architecture_changes_the_key_of_the_root() -> None:
    assert changed(keys(composer(settings="arch = 'aarch64'").compose("runtime"))) == ROOTED | COMPILED


def test_single_file_and_folder_with_one_file_have_different_keys() -> None:
    checkout = base_checkout()
    checkout.trees[APP] = (tree_file("x", "same"),)
    folder = keys(composer(checkout=checkout).compose("runtime"))["runtime/app"]
    checkout.trees[APP] = (tree_file(".", "same"),)
    assert keys(composer(checkout=checkout).compose("runtime"))["runtime/app"] != folder


@st.composite
def disguised(draw: st.DrawFn, text: str) -> str:
    """The same stage file: keys and tables in another order, other spaces, comments, empty lines."""
    tables: list[list[str]] = [[]]
    for line in (line.strip() for line in text.splitlines() if line.strip()):
        if line.startswith("["):
            tables.append([line])
        else:
            tables[-1].append(line)
    noise = st.sampled_from(["", "  ", "# from = 'other'", "\t# [root]"])
    spaces = st.sampled_from(["", " ", "\t "])
    top = draw(st.permutations(tables[0]))
    groups: dict[str, list[list[str]]] = {}
    for table in tables[1:]:
        groups.setdefault(table[0].strip("[]").partition(".")[0], []).append(table)
    lines: list[str] = list(top)
    for name in draw(st.permutations(sorted(groups))):
        for header, *rest in groups[name]:
            lines += [header, *draw(st.permutations(rest))]
    dressed: list[str] = []
    for line in lines:
        key, mark, value = line.partition(" = ")
        spaced = key if not mark or line.startswith("[") else f"{key}{draw(spaces)}={draw(spaces)}{value}"
        dressed += [draw(noise), draw(spaces) + spaced + draw(st.sampled_from(["", " # why"]))]
    return "\n".join(dressed)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_keys_do_not_depend_on_order_spaces_or_comments_of_stage_files(data: st.DataObject) -> None:
    stages = {name: data.draw(disguised(text), label=name) for name, text in STAGES.items()}
    shuffled = {name: stages[name] for name in data.draw(st.permutations(sorted(stages)))}
    made = composer(shuffled).compose("runtime")
    assert keys(made) == BEFORE
    assert made == composer().compose("runtime")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_keys_do_not_depend_on_the_order_of_checkout_answers(data: st.DataObject) -> None:
    checkout = base_checkout()
    checkout.wheels["deps.txt"] = tuple(data.draw(st.permutations(checkout.wheels["deps.txt"])))
    assert list(keys(composer(checkout=checkout).compose("runtime"))) == list(BEFORE)
    assert keys(composer(checkout=checkout).compose("runtime")) == BEFORE
