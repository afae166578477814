"""What is said before a build about requests and settings of GPUs that the locks cannot meet."""

from __future__ import annotations

import pytest
from planfakes import STAGES, FakeCheckout, base_checkout, composer, wheel

from buildkit.plan.gpu_advice import advise_gpu

FILE = "stages/runtime/stage.toml"
ONNX = (
    "framework.onnxruntime.providers: has no effect: onnxruntime has no CUDAExecutionProvider: onnxruntime-gpu has it"
)


def advice(tables: str, settings: str = "", **wheels: str) -> list[str]:
    made: FakeCheckout = base_checkout()
    made.wheels["deps.txt"] += tuple(wheel(name.replace("_", "-"), version) for name, version in wheels.items())
    composed = composer(STAGES | {"runtime": f"{STAGES['runtime']}\n{tables}"}, made, settings)
    found = advise_gpu(composed._graph.resolve("runtime"), composed.compose("runtime").layers)
    assert all(line.startswith(f"{FILE}: ") for line in found)
    return [line.removeprefix(f"{FILE}: ") for line in found]


@pytest.mark.parametrize(
    ("driver", "lines"),
    [
        (">=570", ["gpu.driver: nvidia-cuda-runtime 13.0.96 (CUDA 13.0) needs driver 580.65.06, and [gpu] allows 570"]),
        (">=580", []),
        ("<700", []),  # nothing fails for certain
    ],
)
def test_wheels_that_need_a_newer_driver_than_the_request_allows(driver: str, lines: list[str]) -> None:
    assert advice(f'[gpu]\ndriver = "{driver}"', torch="2.13.0", nvidia_cuda_runtime="13.0.96") == lines


def test_without_a_request_or_settings_nothing_is_said() -> None:
    assert advice("", nvidia_cuda_runtime="13.0.96") == []


def test_a_request_of_a_stage_below_counts() -> None:
    made = base_checkout()
    made.wheels["deps.txt"] += (wheel("torch", "2.13.0+cu130"),)
    stages = STAGES | {"base": STAGES["base"] + '\n[gpu]\ndriver = ">=535"\n'}
    composed = composer(stages, made)
    (line,) = advise_gpu(composed._graph.resolve("runtime"), composed.compose("runtime").layers)
    assert "torch 2.13.0+cu130 (CUDA 13.0) needs driver 580.65.06, and [gpu] allows 535" in line


def test_settings_for_builds_without_gpus() -> None:
    text = """
    [framework]
    torch = { memory-fraction = 0.5, amp = "bf16", checkpoint = true, tf32 = true }
    tensorflow = { growth = true }
    onnxruntime = {}
    """
    assert advice(text, torch="2.13.0+cpu", tensorflow_cpu="2.21.0", onnxruntime="1.32.0") == [
        "framework.torch.memory-fraction: has no effect: torch 2.13.0+cpu is a build without GPUs",
        "framework.torch.amp: has no effect: torch 2.13.0+cpu is a build without GPUs",
        "framework.tensorflow: has no effect: tensorflow-cpu is a build without GPUs",
        ONNX,
    ]
    assert advice(text, torch="2.13.0", tensorflow="2.21.0", onnxruntime_gpu="1.32.0") == []


def test_settings_of_a_cpu_that_builds_without_gpus_have() -> None:
    text = """
    [framework]
    threads = "cgroup"
    torch = { checkpoint = true }
    tensorflow = {}
    onnxruntime = { providers = ["CPUExecutionProvider"] }
    """
    assert advice(text, torch="2.13.0+cpu", tensorflow_cpu="2.21.0", onnxruntime="1.32.0") == []


def test_a_framework_that_the_root_may_bring() -> None:
    found = advice("[framework.torch]\ntf32 = true", "site-packages = 'system'")
    assert found == ["framework.torch: no lock has torch; it has an effect only if the root brings it"]
