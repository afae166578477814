"""Settings of frameworks in a real image: one layer more, reproducible, with its reason."""

from __future__ import annotations

import json

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools
FOLDER = "/opt/venv/lib/python3.13/site-packages/xoe_runtime"


def test_settings_are_one_layer_more_that_a_second_build_reproduces(tiny: Tiny) -> None:
    plain = tiny.build("app")
    tiny.replace("stages/app/stage.toml", "[config]\n", '[framework]\nthreads = "cgroup"\n\n[config]\n')
    tuned = tiny.build("app")
    assert tuned.built() == {"app/xoe_runtime": "new layer (stages/app/stage.toml: framework)"}
    assert plain.digests().items() <= tuned.digests().items()
    assert json.loads(tiny.run_image("app", "cat", f"{FOLDER}/settings.json")) == {"threads": True}
    assert "def apply(" in tiny.run_image("app", "cat", f"{FOLDER}/applied.py")
    file = tiny.folder / "twice.json"
    ended = tiny.run("reproduce", "app", "--json", str(file))
    assert ended.code == 0, ended.text
    verdicts = {layer["name"]: layer["verdict"] for layer in json.loads(file.read_text())["layers"]}
    assert verdicts["app/xoe_runtime"] == "agrees"


def test_a_framework_that_is_not_locked_stops_plan_and_build(tiny: Tiny) -> None:
    tiny.replace("stages/app/stage.toml", "[config]\n", '[framework]\ntorch.amp = "bf16"\n\n[config]\n')
    message = tiny.refuse("app", code=2)
    assert "`framework.torch`: sets torch, and no lock of this image has torch" in message
    assert tiny.run("plan", "app").code == 2
