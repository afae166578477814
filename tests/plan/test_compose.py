"""Compositions of stages, and definitions that cannot be composed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from planfakes import MB, STAGES, FakeCheckout, base_checkout, composer, keys, sdist, tree_file, wheel

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import AptPin, Model, Pin
from buildkit.plan.spec import Compile, Kind, MakeRoot, PackFiles, PackModel, PackWheels, PullImage, RunStep

DIGEST = "sha256:" + "0" * 64
IMAGE = f'summary = "x"\n[root]\nimage = "docker.io/nvidia/cuda:13@{DIGEST}"\n'
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def of(stages: dict[str, str], checkout: FakeCheckout | None = None, settings: str = "") -> object:
    return composer(STAGES | stages, checkout, settings)


def error(stages: dict[str, str], name: str = "x", checkout: FakeCheckout | None = None, settings: str = "") -> str:
    with pytest.raises(DefinitionError) as caught:
        composer(STAGES | stages, checkout, settings).compose(name)
    assert caught.value.exit_code == 2
    return caught.value.message


def test_a_stage_is_root_layers_and_config() -> None:
    made = composer().compose("runtime")
    assert [spec.name for spec in made.root] == ["base/root"]
    assert [spec.name for spec in made.specs] == [spec.name for spec in (*made.root, *made.layers)]
    history = {spec.name: spec.history for spec in made.specs}
    assert history["base/root"] == "Debian trixie: 2 packages of base.apt"
    assert history["/opt/venv"] == "virtual environment /opt/venv of Python 3.13"
    assert history["deps/heavy"] == "wheels: heavy 1.0"
    assert history["weights/vad"] == "model: vad 3"
    assert history["runtime/app"] == "files: stages/runtime/app → /app"


def test_each_layer_has_its_task() -> None:
    works = {spec.name: spec.work for spec in composer().compose("runtime").specs}
    root, app, big = works["base/root"], works["runtime/app"], works["weights/vad/big.bin"]
    assert isinstance(root, MakeRoot)
    assert [pin.name for pin in root.pins] == ["libc6", "python3.13"]
    assert isinstance(app, PackFiles)
    assert (app.tree.path, app.copy.target) == ("stages/runtime/app", "/app")
    assert isinstance(big, PackModel)
    assert [file.path for file in big.files] == ["big.bin"]
    assert big.target == "/models/vad"
    small = works["weights/vad"]
    assert isinstance(small, PackModel)
    assert [file.path for file in small.files] == ["a.json", "b.json"]
    compiled = [item for work in works.values() if isinstance(work, PackWheels) for item in work.compiled]
    assert [item.artifact.name for item in compiled] == ["native"]
    assert isinstance(compiled[0], Compile)


def test_each_step_runs_on_the_chain_below() -> None:
    made = composer().compose("builder")
    assert [spec.name for spec in made.root] == ["base/root", "builder/apt builder.apt", "builder/prepare"]
    apt, run = made.root[1].work, made.root[2].work
    assert isinstance(apt, RunStep)
    assert isinstance(run, RunStep)
    assert apt.chain == made.root[:1]
    assert run.chain == made.root[:2]
    assert apt.run.network
    assert "gcc=14" in apt.run.command[-1]
    assert "--no-install-recommends" in apt.run.command[-1]
    assert [(tree.path, target) for tree, target in run.mounts] == [("tools", "/mnt")]


def test_heavy_layers_are_shared_blob_for_blob_with_a_stage_on_another_root() -> None:
    own = 'summary = "x"\ninclude = ["runtime"]\n[root]\nsuite = "trixie"\npackages = "base.apt"\nvariant = "extract"'
    runtime, hardened = composer(STAGES | {"x": own}).compose("runtime"), composer(STAGES | {"x": own}).compose("x")
    assert hardened.layers == runtime.layers
    assert hardened.root != runtime.root
    assert hardened.config.user == ""


def test_path_begins_with_the_prefix_and_a_stage_overrides_the_environment() -> None:
    made = composer().compose("runtime").config
    assert made.env == (("PATH", f"/opt/venv/bin:{SYSTEM}"), ("VIRTUAL_ENV", "/opt/venv"), ("MODE", "x"))
    assert dict(composer().compose("base").config.env) == {"PATH": SYSTEM}
    assert composer().compose("weights").config.env == ()
    spec = composer(STAGES | {"x": 'summary = "x"\nfrom = "base"\n[config]\nenv = { PATH = "/x" }'}).compose("x")
    assert dict(spec.config.env) == {"PATH": "/x"}


def test_labels_override_each_other_from_buildkit_to_the_stage() -> None:
    stage = IMAGE + '[config.labels]\n"org.opencontainers.image.vendor" = "us"\na = "stage"'
    made = composer({"x": stage}, settings="labels = { a = 'project', b = 'project' }").compose("x").config
    assert dict(made.labels) == {
        "org.opencontainers.image.title": "p/x",
        "org.opencontainers.image.description": "x",
        "org.opencontainers.image.base.name": "docker.io/nvidia/cuda:13",
        "org.opencontainers.image.base.digest": DIGEST,
        "org.opencontainers.image.vendor": "us",
        "a": "stage",
        "b": "project",
    }


def test_a_registrys_image_keeps_its_own_path_below_the_prefix() -> None:
    stages = STAGES | {"x": IMAGE, "y": 'summary = "y"\nfrom = "x"\ninclude = ["deps"]'}
    found = composer(stages, settings="bytecode = false").compose("y")
    assert isinstance(found.root[0].work, PullImage)
    assert dict(found.config.env)["PATH"] == "/opt/venv/bin:$PATH"
    assert dict(composer(stages).compose("x").config.env)["PATH"] == "$PATH"


def test_disagreeing_locks_are_reported_with_both_lines() -> None:
    checkout = base_checkout()
    checkout.wheels["more.txt"] = (wheel("light", "2.0"),)

    def pin(file: str, line: int, version: str) -> Pin:
        return Pin(name="light", version=version, hashes=(FileHash.of(b""),), file=file, line=line)

    stages = {"x": 'summary = "x"\ninclude = ["deps"]\n[wheels]\nlocks = ["more.txt"]'}
    assert error(stages, checkout=checkout) == "more.txt: has light 2.0, another lock 1.0"  # hand-edited wheels locks
    checkout.pinned = {"deps.txt": (pin("deps.txt", 3, "1.0"),), "more.txt": (pin("more.txt", 7, "2.0"),)}
    message = error(stages, checkout=checkout)
    assert "more.txt:7" in message
    assert "deps.txt:3" in message
    assert composer(STAGES | {"x": stages["x"].replace('include = ["deps"]', "")}, checkout).compose("x").layers


def test_a_lock_that_two_stages_share_is_packed_once() -> None:
    stages = {"x": 'summary = "x"\ninclude = ["deps"]\n[wheels]\nlocks = ["more.txt"]'}
    checkout = base_checkout()
    checkout.wheels["more.txt"] = (wheel("heavy", size=5 * MB),)
    made = composer(STAGES | stages, checkout).compose("x")
    assert sum("heavy 1.0" in spec.history for spec in made.layers) == 1


STEPS = 'summary = "x"\nfrom = "base"\n[[run]]\nscript = "true"\n[[run]]\nscript = "true"\n'
COPIES = '[[copy]]\nsource = "app"\ntarget = "/a"\n[[copy]]\nsource = "app"\ntarget = "/b"\n'


def test_layers_of_one_name_are_numbered() -> None:
    checkout = base_checkout()
    checkout.trees["stages/x/app"] = checkout.trees["tools"]
    made = composer(STAGES | {"x": STEPS + COPIES}, checkout).compose("x")
    assert list(keys(made)) == ["base/root", "x/true", "x/true (2)", "x/app", "x/app (2)"]


def test_layers_of_different_kinds_and_one_name_are_numbered() -> None:
    checkout = base_checkout()
    checkout.wheels["deps.txt"] = tuple(wheel(name, size=5 * MB) for name in ("app", "bin-0", "bin-5", "m", "true"))
    checkout.wheels["deps.txt"] += (wheel("click"), wheel("thin"))  # in bin-4 and bin-0
    checkout.locked["models.lock"] = (replace(checkout.locked["models.lock"][0], name="m"),)
    checkout.trees["stages/x/app"] = checkout.trees["tools"]
    stage = f'{STEPS}{COPIES}[wheels]\nlocks = ["deps.txt"]\n[models]\nlock = "models.lock"'
    made = keys(composer(STAGES | {"x": stage}, checkout).compose("x"))
    assert {name for name in made if "app" in name} == {"x/app", "x/app (2)", "x/app (3)"}
    assert {name for name in made if "bin-" in name} == {"x/bin-0", "x/bin-0 (2)", "x/bin-4", "x/bin-5"}
    assert {name for name in made if "true" in name} == {"x/true", "x/true (2)", "x/true (3)"}
    assert {"x/m", "x/m (2)", "x/m/big.bin"} <= made.keys()


def test_order_of_a_models_files_in_the_lock_does_not_matter() -> None:
    checkout = base_checkout()
    (model,) = checkout.locked["models.lock"]
    checkout.locked["models.lock"] = (replace(model, files=model.files[::-1]),)
    assert keys(composer(checkout=checkout).compose("weights")) == keys(composer().compose("weights"))


NOTHING = 'summary = "x"\n[wheels]\nlocks = ["deps.txt"]\n'
WRONG = {
    "steps on a stage that has no root": (
        {"y": NOTHING, "x": 'summary = "x"\nfrom = "y"\n[[run]]\nscript = "true"'},
        "",
        "stages/x/stage.toml: `from`: `y` has no root to run steps in",
    ),
    "bytecode without its stage": (
        {"x": NOTHING},
        "bytecode-root = 'none'",
        "bytecode is to be compiled, but there is no stage `none` to do it in",
    ),
    "bytecode in a stage without a root": (
        {"x": NOTHING},
        "bytecode-root = 'weights'",
        "bytecode is to be compiled in `weights`, but that stage has no root",
    ),
    "an sdist without a builder": (
        {"x": NOTHING},
        "builder = 'none'",
        "a wheel must be compiled, but there is no stage `none` to do it in",
    ),
    "a builder that needs itself": (
        {"builder": 'summary = "b"\nfrom = "base"\n[wheels]\nlocks = ["deps.txt"]', "x": NOTHING},
        "",
        "stages/builder: a lock of the builder needs the builder itself",
    ),
    "models that the lock has not": (
        {"x": 'summary = "x"\n[models]\nlock = "models.lock"\nnames = ["vad", "no", "nor"]'},
        "",
        "\n  - ".join(
            (
                "2 problems:",
                *(f"stages/x/stage.toml: `models.names`: models.lock has no model `{n}`" for n in ("no", "nor")),
            )
        ),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_definition_that_cannot_be_composed_raises_an_error(what: str) -> None:
    stages, settings, message = WRONG[what]
    assert error(stages, settings=settings) == message


def test_only_named_models_are_packed() -> None:
    checkout = base_checkout()
    (model,) = checkout.locked["models.lock"]
    checkout.locked["models.lock"] = (model, replace(model, name="tts"))
    stage = 'summary = "x"\n[models]\nlock = "models.lock"\nnames = ["tts"]\ntarget = "/m"'
    made = composer({"x": stage}, checkout).compose("x")
    assert {spec.work.model.name for spec in made.layers if isinstance(spec.work, PackModel)} == {"tts"}
    assert {spec.work.target for spec in made.layers if isinstance(spec.work, PackModel)} == {"/m/tts"}


def test_a_model_without_small_files_has_no_empty_layer() -> None:
    checkout = base_checkout()
    (model,) = checkout.locked["models.lock"]
    checkout.locked["models.lock"] = (
        Model(name="m", version="", source=RepoSource(path=""), license="", files=model.files[:1]),
    )
    made = composer(checkout=checkout).compose("weights")
    assert [(spec.name, spec.history) for spec in made.layers] == [("weights/m/big.bin", "model: m/big.bin")]


def test_bytecode_depends_on_a_step_that_installs_a_second_interpreter() -> None:
    def wheels(script: str, interpreter: str) -> str:
        stages = STAGES | {"builder": STAGES["builder"].replace('"true"', f'"{script}"')}
        settings = f"bytecode-root = 'builder'\ninterpreter = '{interpreter}'"
        return keys(composer(stages, settings=settings).compose("deps"))["deps/heavy"]

    own = "/usr/local/bin/python3.13"
    assert wheels("make python 1", own) != wheels("make python 2", own)
    assert wheels("other 1", "/usr/bin/python3.13") == wheels("other 2", "/usr/bin/python3.13")


def test_bytecode_depends_on_a_later_step_that_installs_the_interpreter() -> None:
    def made(version: str) -> dict[str, str]:
        checkout = base_checkout()
        checkout.apts["base.apt"] = (AptPin(name="libc6", version="2.41"),)
        checkout.apts["builder.apt"] = (AptPin(name="python3.13", version=version),)
        return keys(composer(checkout=checkout, settings="bytecode-root = 'builder'").compose("deps"))

    assert made("3.13.5")["deps/heavy"] != made("3.13.6")["deps/heavy"]


def test_a_package_of_the_repository_is_keyed_by_its_tree() -> None:
    def made(*files: object) -> dict[str, str]:
        checkout = base_checkout()
        local = replace(sdist("local"), file="", sha256=None, size=0, path="libs/local")
        checkout.wheels["deps.txt"] = (local,)
        checkout.trees["libs/local"] = checkout.trees["tools"] + files  # type: ignore[operator]
        return keys(composer(checkout=checkout).compose("deps"))

    from planfakes import tree_file

    one, other = made(), made(tree_file("x.py"))
    assert {name for name in one if one[name] != other[name]} == {name for name in one if "bin" in name}


@pytest.mark.parametrize(
    ("source", "target", "placed"),
    [
        ("tool.py", "/opt/", "/opt/tool.py"),
        ("tool.py", "/opt/other", "/opt/other"),
        ("app", "/opt/", "/opt/"),
    ],
)
def test_file_keeps_its_name_below_a_target_that_ends_in_a_slash(source: str, target: str, placed: str) -> None:
    checkout = base_checkout()
    checkout.trees["stages/runtime/tool.py"] = (tree_file("."),)
    stages = STAGES | {"runtime": f'summary = "x"\n[[copy]]\nsource = "{source}"\ntarget = "{target}"\n'}
    (spec,) = composer(stages, checkout).compose("runtime").layers
    assert isinstance(spec.work, PackFiles)
    assert spec.work.copy.target == placed
    assert json.loads(spec.recipe)["target"] == placed


def test_preferred_wheel_lies_above_the_others_and_moves_no_other_key() -> None:
    plain = composer().compose("deps").layers
    stages = STAGES | {"deps": STAGES["deps"].replace('["deps.txt"]', '["deps.txt"]\nprefer = ["Thin", "heavy"]')}
    image = composer(stages).compose("runtime")
    assert image.prefer == ("thin", "heavy")
    wheels = [spec.name for spec in image.layers if spec.kind is Kind.WHEELS]
    assert wheels[-2:] == ["deps/heavy", "deps/thin"]
    before = {spec.name: spec.key for spec in plain}
    moved = {spec.name for spec in image.layers if spec.name in before and before[spec.name] != spec.key}
    thin_bin = next(
        s.name for s in plain if isinstance(s.work, PackWheels) and "thin" in {w.name for w in s.work.wheels}
    )
    assert moved <= {thin_bin}
    assert before["deps/heavy"] in {spec.key for spec in image.layers}


def test_preferred_package_must_be_in_a_lock_of_the_stage() -> None:
    stages = STAGES | {"deps": STAGES["deps"].replace('["deps.txt"]', '["deps.txt"]\nprefer = ["heavvy"]')}
    with pytest.raises(DefinitionError) as caught:
        composer(stages).compose("runtime")
    (problem,) = caught.value.problems
    assert problem.what == "no lock of this stage has the package `heavvy`"
    assert problem.hint == "did you mean `heavy`?"
