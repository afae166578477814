"""Why a layer is built: in the user's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from planfakes import STAGES, FakeCheckout, base_checkout, composer, model_file, sdist, tree_file, wheel

from buildkit.declare.pins import AptPin
from buildkit.plan.compose import Composition
from buildkit.plan.why import explain_change

LAST = {spec.name: spec.recipe for name in ("runtime", "builder") for spec in composer().compose(name).specs}


def whys(made: Composition, last: dict[str, str] = LAST) -> dict[str, str]:
    changed = [spec for spec in made.specs if spec.recipe != last.get(spec.name)]
    return {spec.name: explain_change(spec, last) for spec in changed}


def after(edit: Callable[[FakeCheckout], None], stage: str = "runtime") -> dict[str, str]:
    checkout = base_checkout()
    edit(checkout)
    return whys(composer(checkout=checkout).compose(stage))


def of_stage(name: str, old: str, new: str, stage: str) -> dict[str, str]:
    assert STAGES[name].count(old) == 1
    return whys(composer(STAGES | {name: STAGES[name].replace(old, new)}).compose(stage))


def wheels(*change: object) -> Callable[[FakeCheckout], None]:
    return lambda checkout: checkout.wheels.update({"deps.txt": change})  # type: ignore[dict-item]


HEAVY, LIGHT, THIN, NATIVE = base_checkout().wheels["deps.txt"]
BIN = {"light": "deps/bin-4", "thin": "deps/bin-0", "native": "deps/bin-5"}


def test_wheels() -> None:
    assert after(wheels(wheel("heavy", "2.0", 5 << 20), LIGHT, THIN, NATIVE)) == {"deps/heavy": "heavy 1.0 → 2.0"}
    assert after(wheels(HEAVY, LIGHT, THIN, NATIVE, wheel("minor"))) == {BIN["light"]: "minor 1.0 added"}
    assert after(wheels(HEAVY, wheel("minor"), THIN, NATIVE)) == {BIN["light"]: "light removed, minor 1.0 added"}
    other = replace(LIGHT, sha256=THIN.sha256)
    assert after(wheels(HEAVY, other, THIN, NATIVE)) == {BIN["light"]: "light: another file"}
    again = replace(NATIVE, sha256=THIN.sha256)
    assert after(wheels(HEAVY, LIGHT, THIN, again)) == {BIN["native"]: "native compiled anew"}
    assert after(wheels(HEAVY, LIGHT, THIN, sdist("native", "2.0"))) == {BIN["native"]: "native 1.0 → 2.0"}


def test_packages() -> None:
    def apt(*pins: tuple[str, str]) -> dict[str, str]:
        found = tuple(AptPin(name=name, version=version) for name, version in pins)
        return after(lambda checkout: checkout.apts.update({"base.apt": found}), "base")

    python = ("python3.13", "3.13.5")
    assert apt(("libc6", "2.42"), python) == {"base/root": "libc6 2.41 → 2.42"}
    assert apt(("libc6", "2.41"), python, ("zlib", "1=2")) == {"base/root": "zlib 1=2 added"}
    assert apt(python) == {"base/root": "libc6 removed"}


def test_the_interpreter_that_compiled() -> None:
    pins = (AptPin(name="libc6", version="2.41"), AptPin(name="python3.13", version="3.13.6"))
    found = after(lambda checkout: checkout.apts.update({"base.apt": pins}))
    assert found["deps/heavy"] == found["base/root"] == "python3.13 3.13.5 → 3.13.6"
    assert found[BIN["native"]] == "python3.13 3.13.5 → 3.13.6, native compiled anew"
    off = whys(composer(settings="bytecode = false").compose("runtime"))
    assert off["deps/heavy"] == "bytecode switched"


def test_files_and_models() -> None:
    def files(*found: object) -> dict[str, str]:
        return after(lambda checkout: checkout.trees.update({"stages/runtime/app": found}))  # type: ignore[dict-item]

    main, run = base_checkout().trees["stages/runtime/app"]
    assert files(tree_file("main.py", "new"), run) == {"runtime/app": "main.py changed"}
    assert files(main) == {"runtime/app": "run.sh removed"}
    assert files(main, run, tree_file("a.py")) == {"runtime/app": "a.py added"}
    assert files(replace(main, executable=True), run) == {"runtime/app": "main.py changed"}
    many = [tree_file(f"f{number}.py") for number in range(5)]
    assert files(main, run, *many) == {"runtime/app": "f0.py added, f1.py added, f2.py added and 2 more"}
    (model,) = base_checkout().locked["models.lock"]
    changed = replace(model, files=(model_file("big.bin", 9 << 20, "new"), *model.files[1:]))
    found = after(lambda checkout: checkout.locked.update({"models.lock": (changed,)}))
    assert found == {"weights/vad/big.bin": "big.bin changed"}


def test_one_file_alone_has_no_path_to_name() -> None:
    def made(content: str) -> Composition:
        checkout = base_checkout()
        checkout.trees["stages/runtime/app"] = (tree_file(".", content),)
        return composer(checkout=checkout).compose("runtime")

    last = {spec.name: spec.recipe for spec in made("old").specs}
    assert whys(made("new"), last) == {"runtime/app": "the file changed"}


def test_settings_of_roots_and_steps() -> None:
    assert of_stage("base", '"trixie"', '"forky"', "base") == {"base/root": "the suite trixie → forky"}
    assert of_stage("base", "uid = 1000", "uid = 7", "base") == {"base/root": "`users` changed"}
    assert of_stage("runtime", '"/app"', '"/srv"', "runtime") == {"runtime/app": "the target folder /app → /srv"}
    assert of_stage("builder", 'A = "1"', 'A = "2"', "builder") == {"builder/prepare": "`env` changed"}
    tools = after(lambda checkout: checkout.trees.update({"tools": (tree_file("t.sh", "new"),)}), "builder")
    assert tools == {"builder/prepare": "/mnt/t.sh changed"}
    alone = after(lambda checkout: checkout.trees.update({"tools": (tree_file("."),)}), "builder")
    assert alone == {"builder/prepare": "/mnt added, /mnt/t.sh removed"}
    below = of_stage("base", '"trixie"', '"forky"', "builder")
    assert below["builder/prepare"] == "the root below changed"
    prefix = whys(composer(settings="python = '3.13.9'").compose("runtime"))
    assert prefix == {"/opt/venv": "Python 3.13 → 3.13.9"}


@pytest.mark.parametrize(("last", "why"), [({}, "first build"), ({"other": "{}"}, "new layer")])
def test_what_was_never_built(last: dict[str, str], why: str) -> None:
    (spec,) = composer().compose("base").specs
    assert explain_change(spec, last) == why
    assert explain_change(spec, {spec.name: spec.recipe}) == "not in the cache any more"


def test_an_interpreter_known_by_its_steps_alone() -> None:
    def made(version: str) -> Composition:
        checkout = base_checkout()
        checkout.apts["base.apt"] = (AptPin(name="libc6", version="2.41"),)
        checkout.apts["builder.apt"] = (AptPin(name="python3.13", version=version),)
        return composer(checkout=checkout, settings="bytecode-root = 'builder'").compose("deps")

    last = {spec.name: spec.recipe for spec in made("3.13.5").specs}
    assert whys(made("3.13.6"), last)["deps/heavy"] == "the interpreter changed"


def test_no_hash_is_ever_shown() -> None:
    for spec in (*composer().compose("runtime").specs, *composer().compose("builder").specs):
        value = json.loads(spec.recipe)
        for key in value:
            last = {spec.name: json.dumps({name: part for name, part in value.items() if name != key})}
            assert not re.search(r"[0-9a-f]{12}", explain_change(spec, last))
