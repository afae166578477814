"""The images' own Python in compositions: its layers come from its lock alone, on any root."""

from __future__ import annotations

import json

from planfakes import STAGES, base_checkout, composer, keys, python_archive

from buildkit.plan.spec import Kind, PackPython

OWN = "python = '3.13'\ninterpreter = 'standalone'"
IMAGE = {"base": 'summary = "b"\n[root]\nimage = "docker.io/library/debian:13@sha256:' + "a" * 64 + '"'}


def test_every_image_with_wheels_shares_the_layers_of_its_own_python() -> None:
    made = composer(settings=OWN)
    names = {name: [spec.name for spec in made.compose(name).layers if spec.kind is Kind.PYTHON] for name in STAGES}
    assert names["deps"] == names["runtime"] == ["/opt/python", "/opt/python (bytecode)"]
    assert names["weights"] == names["base"] == []
    whole = made.compose("runtime")
    assert [spec.name for spec in whole.layers[:3]] == ["/opt/python", "/opt/python (bytecode)", "/opt/venv"]
    assert json.loads(whole.layers[2].recipe)["interpreter"] == "/opt/python/bin/python3.13"


def test_keys_of_python_and_wheels_do_not_depend_on_the_root() -> None:
    stages = {name: STAGES[name] for name in ("deps",)} | {"base": STAGES["base"], "builder": STAGES["builder"]}
    debian, image = composer(stages, settings=OWN), composer({"deps": STAGES["deps"]} | IMAGE, settings=OWN)
    image._checkout.wheels["deps.txt"] = debian._checkout.wheels["deps.txt"] = base_checkout().wheels["deps.txt"][:3]
    assert keys(debian.compose("deps")) == keys(image.compose("deps"))


def test_bytecode_of_wheels_depends_on_the_release_and_not_on_the_archive() -> None:
    def of(arch: str, version: str = "3.13.9") -> dict[str, str]:
        checkout = base_checkout()
        checkout.wheels["deps.txt"] = checkout.wheels["deps.txt"][:3]
        checkout.interpreter = python_archive(version, arch)
        return keys(composer(checkout=checkout, settings=f"{OWN}\narch = '{arch}'").compose("deps"))

    here, there, newer = of("x86_64"), of("aarch64"), of("x86_64", "3.13.10")
    assert {name for name in here if here[name] != there[name]} == {"/opt/python", "/opt/python (bytecode)"}
    assert here.keys() - {"/opt/venv"} == {name for name in here if here[name] != newer[name]}


def test_own_python_lies_on_the_root_that_compiles_bytecode() -> None:
    made = composer(settings=OWN)
    assert [spec.name for spec in made.compiler] == ["base/root", "/opt/python"]
    plain = composer(settings=f"{OWN}\nbytecode = false").compose("deps")
    works = [spec.work for spec in plain.layers if isinstance(spec.work, PackPython)]
    assert [work.bytecode for work in works] == [False]
