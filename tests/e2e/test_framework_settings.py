"""Settings of frameworks in a real image: one layer more, reproducible, with its reason."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import add_wheel
from tests.e2e.tinyproject import SessionResult, Tiny
from tests.native.elfmaker import make_elf

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


def test_a_driver_that_is_too_old_is_told_by_native_files_after_a_build_and_by_locks_before(tiny: Tiny) -> None:
    add_wheel(tiny.folder / "links", "provider", "1.0", {"provider/cuda.so": make_elf(needed=["libcudart.so.13"])})
    add_wheel(tiny.folder / "links", "nvidia_cuda_runtime", "13.0.96")
    inputs = tiny.project / "requirements/app.in"
    inputs.write_text(inputs.read_text() + "provider==1.0\n")
    tiny.lock()
    tiny.replace("stages/app/stage.toml", "[config]\n", '[gpu]\ndriver = ">=570"\n\n[config]\n')
    by_files = "provider/cuda.so (CUDA 13) needs driver 580.65.06, and [gpu] allows 570"
    assert "needs driver" not in said(tiny.run("plan", "app"))
    assert by_files in said(tiny.build("app"))
    audited = said(tiny.run("audit", "app", "--json"))
    assert '"rule": "cuda-driver"' in audited
    assert by_files in audited
    inputs.write_text(inputs.read_text() + "nvidia-cuda-runtime==13.0.96\n")
    tiny.lock()
    by_locks = "gpu.driver: nvidia-cuda-runtime 13.0.96 (CUDA 13.0) needs driver 580.65.06, and [gpu] allows 570"
    assert by_locks in said(tiny.run("plan", "app"))
    assert by_locks in said(tiny.build("app"))


def said(ended: SessionResult) -> str:
    """What a session printed, its lines joined."""
    return " ".join(ended.text.split())
