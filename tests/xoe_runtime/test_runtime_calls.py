"""What ``xoe_runtime`` asks of frameworks, with and without a GPU. Nothing heavy is imported: see `recording`."""

from __future__ import annotations

import ast
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buildkit.layers.framework import module_files
from tests.xoe_runtime.laid import Lay, lay
from tests.xoe_runtime.recording import Calls, fake_onnxruntime, fake_tensorflow, fake_torch

TORCH = """
[framework]
torch = { memory-fraction = 0.8, amp = "bf16", checkpoint = true, tf32 = true }
"""
ONNX = """
[framework.onnxruntime]
gpu-mem-limit = "1g"
arena-extend-strategy = "kSameAsRequested"
"""
CUDA = (
    "CUDAExecutionProvider",
    {"gpu_mem_limit": str(1 << 30), "arena_extend_strategy": "kSameAsRequested"},
)


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture(autouse=True)
def threads_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def give(monkeypatch: pytest.MonkeyPatch, **modules: object) -> None:
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all((one.name, one.levelno) == ("xoe_runtime", logging.WARNING) for one in caplog.records)
    return [one.getMessage() for one in caplog.records]


def test_every_gpu_gets_the_fraction_and_tf32_is_set(laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    torch = fake_torch(calls, gpus=2)
    give(monkeypatch, torch=torch)
    laid(TORCH).apply()
    assert calls == [("matmul", "high"), ("fraction", 0.8, 0), ("fraction", 0.8, 1)]
    assert torch.backends.cudnn.allow_tf32 is True


def test_without_a_gpu_nothing_is_set_and_that_is_said_once(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    give(monkeypatch, torch=fake_torch(calls, gpus=0))
    module = laid(TORCH)
    for _ in range(3):
        module.apply()
        with module.autocast() as mixed:
            assert mixed is None
    assert {call[0] for call in calls} == {"matmul"}  # a switch of the library, which needs no device
    assert warnings(caplog) == [
        "torch sees no GPU: memory-fraction of [framework.torch] has no effect",
        "torch sees no GPU: amp of [framework.torch] has no effect",
    ]


@pytest.mark.parametrize(("amp", "scales"), [("bf16", False), ("fp16", True)])
def test_precision_is_the_stages_and_only_fp16_is_scaled(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls, amp: str, scales: bool
) -> None:
    give(monkeypatch, torch=fake_torch(calls, gpus=1))
    module = laid(f"[framework.torch]\namp = '{amp}'")
    with module.autocast() as mixed:
        assert mixed == "mixed"
    assert module.grad_scaler() == "a scaler"
    dtype = {"bf16": "bfloat16", "fp16": "float16"}[amp]
    assert calls == [("autocast", "cuda", {"dtype": dtype}), ("scaler", "cuda", {"enabled": scales})]


def test_what_the_stage_does_not_ask_for_is_left_alone(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    give(monkeypatch, torch=fake_torch(calls, gpus=1), onnxruntime=fake_onnxruntime("CUDAExecutionProvider"))
    module = laid("[framework.torch]\nexpandable-segments = true")
    module.apply()
    with module.autocast():
        pass
    plain = object()
    assert module.checkpointed(plain) is plain
    assert module.session_options().intra_op_num_threads == 0
    assert module.providers() == ["CPUExecutionProvider"]
    assert calls == []
    assert warnings(caplog) == []


@pytest.mark.parametrize(("setting", "kept"), [("", True), ("enable-cpu-mem-arena = false", False)])
def test_onnx_runtime_keeps_memory_of_the_cpu_unless_the_stage_says_otherwise(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, setting: str, kept: bool
) -> None:
    give(monkeypatch, onnxruntime=fake_onnxruntime())
    assert laid(f"[framework.onnxruntime]\n{setting}").session_options().enable_cpu_mem_arena is kept


def test_tensorflow_has_a_limit_on_every_gpu(laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    give(monkeypatch, tensorflow=fake_tensorflow(calls, gpus=2))
    laid('[framework.tensorflow]\nlimit = "8g"').apply()
    assert calls == [("limit", "GPU:0", ["8192 MiB"]), ("limit", "GPU:1", ["8192 MiB"])]


def test_tensorflow_without_a_gpu_says_so(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    give(monkeypatch, tensorflow=fake_tensorflow(calls, gpus=0))
    laid('[framework.tensorflow]\nlimit = "8g"').apply()
    assert calls == []
    assert warnings(caplog) == ["tensorflow sees no GPU: limit of [framework.tensorflow] has no effect"]


def test_threads_are_the_cgroups_and_what_the_environment_says_is_kept(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    give(monkeypatch, torch=fake_torch(calls, 0), tensorflow=fake_tensorflow(calls, 0), onnxruntime=fake_onnxruntime())
    module = laid('[framework]\nthreads = "cgroup"\ntorch = {}\ntensorflow = {}\nonnxruntime = {}')
    from xoe_runtime import applied, onnx  # type: ignore[import-not-found]  # laid out by this test

    for part in (applied, onnx):
        monkeypatch.setattr(part, "count_cpus", lambda: 3)
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    module.apply()
    assert calls == [("threads", 3), ("intra", 3), ("inter", 3)]
    assert module.session_options().intra_op_num_threads == 3
    found = [os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")]
    assert found == ["3", "3", "1"]


def test_apply_imports_only_the_frameworks_that_are_asked_for(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    give(monkeypatch, torch=fake_torch(calls, 1), tensorflow=None)  # importing the second fails
    module = laid("[framework]\ntorch = { memory-fraction = 0.5 }\ntensorflow = { limit = '1g' }")
    module.apply("torch")
    assert calls == [("fraction", 0.5, 0)]
    with pytest.raises(ValueError, match="does not name 'jax', but torch, tensorflow"):
        module.apply("jax")


def test_providers_of_the_stage_with_their_options_where_there_is_a_gpu(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give(monkeypatch, onnxruntime=fake_onnxruntime("CUDAExecutionProvider", "TensorrtExecutionProvider"))
    module = laid(ONNX + 'providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]')
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr("xoe_runtime.onnx.DEVICES", tmp_path)
    assert module.providers() == ["TensorrtExecutionProvider", CUDA, "CPUExecutionProvider"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert module.providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("built_with", "said"),
    [
        ((), "this onnxruntime has no CUDAExecutionProvider: it is not used"),
        (("CUDAExecutionProvider",), "there is no GPU: CUDAExecutionProvider is not used"),
    ],
)
def test_onnx_runtime_is_on_the_cpu_and_says_why(
    laid: Lay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    built_with: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    give(monkeypatch, onnxruntime=fake_onnxruntime(*built_with))
    module = laid(ONNX)
    monkeypatch.setattr("xoe_runtime.onnx.DEVICES", tmp_path)
    assert module.providers() == module.providers() == ["CPUExecutionProvider"]
    assert warnings(caplog) == [said]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_quota_is_read_of_both_versions_of_cgroups(
    laid: Lay, tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    laid("[framework]\nthreads = 'cgroup'")
    from xoe_runtime.cpus import count_cpus, find_quota  # type: ignore[import-not-found]  # laid out by this test

    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert find_quota(tmp_path / "cgroup") == quota
    assert count_cpus(tmp_path / "cgroup") == min(len(os.sched_getaffinity(0)), 2 if quota else 1 << 20)


def test_module_is_syntax_of_python_3_9_and_imports_the_standard_library_alone() -> None:
    for name, text in module_files().items():
        tree = ast.parse(text, name, feature_version=(3, 9))
        imported = {
            part
            for node in ast.walk(tree)
            for part in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
            + ([node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
        }
        assert {part.partition(".")[0] for part in imported} <= sys.stdlib_module_names, name


def test_importing_it_loads_no_framework_and_standard_error_has_the_warning(tmp_path: Path) -> None:
    lay(tmp_path, TORCH)
    (tmp_path / "torch.py").write_text(
        "class cuda:\n    is_available = staticmethod(lambda: False)\n"
        "def set_float32_matmul_precision(x): pass\n"
        "class backends:\n    class cudnn: pass\n"
    )
    script = "import sys, xoe_runtime; assert 'torch' not in sys.modules; xoe_runtime.apply(); xoe_runtime.apply()"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    assert done.stderr == "torch sees no GPU: memory-fraction of [framework.torch] has no effect\n"
