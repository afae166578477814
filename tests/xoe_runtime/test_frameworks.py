"""The real frameworks take what ``xoe_runtime`` asks: PyTorch, TensorFlow and ONNX Runtime on a CPU.

`nox -s test-frameworks` installs PyTorch and TensorFlow; elsewhere their tests are skipped. What only a GPU has (that a
cap is kept) is not shown here: a GPU is made up where Python hands over to C++.
"""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.xoe_runtime.laid import Lay, lay

TORCH = """
[framework]
torch = { memory-fraction = 0.25, amp = "bf16", checkpoint = true, tf32 = true }
"""


def needs(name: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed: nox -s test-frameworks")


@pytest.fixture
def torch() -> Iterator[ModuleType]:
    found = pytest.importorskip("torch", reason="torch is not installed: nox -s test-frameworks")
    before = found.get_num_threads(), found.get_float32_matmul_precision()
    cudnn = found.backends.cudnn.allow_tf32
    yield found
    found.set_num_threads(before[0])
    found.set_float32_matmul_precision(before[1])
    found.backends.cudnn.allow_tf32 = cudnn


class Saved:
    """Counts the bytes of activations that autograd keeps between the forward and the backward pass."""

    def __init__(self, torch: Any, module: Any) -> None:
        self.bytes = 0
        self._own = {parameter.data_ptr() for parameter in module.parameters()}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Any) -> Any:
        if tensor.data_ptr() not in self._own:
            self.bytes += tensor.numel() * tensor.element_size()
        return tensor


def make_model(torch: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    blocks = [
        torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64)) for _ in range(4)
    ]
    return torch.nn.Sequential(*blocks), torch.randn(32, 64)


def run(torch: Any, model: Any, batch: Any) -> tuple[int, list[Any]]:
    """Return the bytes kept between the passes, and the gradients."""
    saved = Saved(torch, model)
    model.zero_grad()
    with saved.hooks:
        loss = model(batch).square().mean()
    loss.backward()
    return saved.bytes, [parameter.grad.clone() for parameter in model.parameters()]


def test_checkpointing_keeps_the_inputs_of_blocks_alone_and_changes_no_gradient(laid: Lay, torch: Any) -> None:
    module = laid(TORCH)
    model, batch = make_model(torch)
    plain, gradients = run(torch, model, batch)
    names = list(model.state_dict())
    for block in model:
        assert module.checkpointed(block) is block
        assert module.checkpointed(block).forward is block.forward  # once is enough
    kept, same = run(torch, model, batch)
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))
    assert list(model.state_dict()) == names
    inputs = 4 * batch.numel() * batch.element_size()
    assert kept <= inputs + batch.numel() * batch.element_size()  # and what the loss keeps
    assert kept * 4 < plain, f"{plain} bytes became {kept}"


def test_checkpointed_module_computes_with_its_own_parameters_when_it_is_copied(laid: Lay, torch: Any) -> None:
    module = laid(TORCH)
    model = module.checkpointed(torch.nn.Linear(2, 2))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.weight.zero_()
        other.bias.zero_()
        batch = torch.ones(1, 2)
        assert other(batch).abs().sum() == 0
        assert model(batch).abs().sum() > 0


def test_mixed_precision_computes_in_bf16_where_it_is_asked_of_the_cpu(laid: Lay, torch: Any) -> None:
    module = laid(TORCH)
    batch = torch.ones(2, 2)
    with module.autocast("cpu"):
        assert (batch @ batch).dtype is torch.bfloat16
    with module.autocast():  # no GPU
        assert (batch @ batch).dtype is torch.float32


def test_the_calls_for_a_gpu_are_those_of_this_release(
    laid: Lay, torch: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """With a made-up GPU, torch's own Python runs to where it hands over to CUDA."""
    set_to: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *call: set_to.append(call), raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    module = laid(TORCH)
    module.apply()
    assert set_to == [(0.25, 0), (0.25, 1)]
    context = module.autocast()
    assert (context.device, context.fast_dtype, context._enabled) == ("cuda", torch.bfloat16, True)
    assert module.grad_scaler().is_enabled() is False  # bf16 has float32's range
    assert [str(one.message) for one in recwarn] == []  # nothing that is deprecated


def test_fp16_is_scaled_by_the_scaler_of_this_release(laid: Lay, torch: Any) -> None:
    module = laid("[framework.torch]\namp = 'fp16'")
    scaler = module.grad_scaler("cpu")
    assert isinstance(scaler, torch.amp.GradScaler)
    assert scaler.is_enabled()
    loss = torch.ones(1, requires_grad=True).sum()
    assert scaler.scale(loss) == scaler.get_scale() * loss
    off = module.grad_scaler()  # no GPU: it hands everything through
    assert off.scale(loss) is loss


@pytest.mark.parametrize(("chosen", "matmul", "cudnn"), [("true", "high", True), ("false", "highest", False)])
def test_tf32_can_be_read_by_the_old_and_the_new_interface(
    laid: Lay, torch: Any, chosen: str, matmul: str, cudnn: bool
) -> None:
    laid(f"[framework.torch]\ntf32 = {chosen}").apply()
    assert torch.get_float32_matmul_precision() == matmul
    assert torch.backends.cuda.matmul.allow_tf32 is cudnn
    assert torch.backends.cudnn.allow_tf32 is cudnn
    assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if cudnn else "ieee")
    assert (torch.backends.cudnn.conv.fp32_precision == "tf32") is cudnn


def test_torch_and_openmp_have_the_cgroups_threads(laid: Lay, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = laid("[framework]\nthreads = 'cgroup'\ntorch = {}")
    monkeypatch.setattr("xoe_runtime.applied.count_cpus", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    module.apply()
    assert torch.get_num_threads() == 3


def test_the_allocators_variable_is_one_that_this_release_reads(torch: Any) -> None:
    library = Path(torch.__file__).parent / "lib/libc10.so"
    assert b"PYTORCH_ALLOC_CONF\0" in library.read_bytes()


# TensorFlow keeps one configuration a process, so each test has its own

MADE_UP_GPU = """
    import sys
    from tensorflow.python.eager import context
    import tensorflow as tf
    import xoe_runtime
    context.context()._initialize_physical_devices()
    gpu = context.PhysicalDevice("/physical_device:GPU:0", "GPU")
    context.context()._physical_devices.append(gpu)
"""


def in_tensorflow(folder: Path, settings: str, script: str) -> str:
    lay(folder, settings)
    text = textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs("tensorflow")
def test_tensorflow_takes_the_limit_of_a_gpu_and_refuses_growth_beside_it(tmp_path: Path) -> None:
    script = f"""{MADE_UP_GPU}
    xoe_runtime.apply()
    (device,) = tf.config.get_logical_device_configuration(gpu)
    print(device.memory_limit)
    try:
        tf.config.experimental.set_memory_growth(gpu, True)
    except ValueError as error:
        print(error)
    """
    limit, refusal = in_tensorflow(tmp_path, '[framework.tensorflow]\nlimit = "2g"', script).splitlines()
    assert limit == "2048"
    assert "memory growth" in refusal
    assert "virtual devices configured" in refusal


@needs("tensorflow")
def test_tensorflow_has_the_cgroups_threads(tmp_path: Path) -> None:
    script = """
    import xoe_runtime.applied
    xoe_runtime.applied.count_cpus = lambda: 3
    xoe_runtime.apply()
    import tensorflow as tf
    tf.constant(1)
    threading = tf.config.threading
    print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
    """
    said = in_tensorflow(tmp_path, "[framework]\nthreads = 'cgroup'\ntensorflow = {}", script)
    assert said == "3 3\n"


@needs("tensorflow")
def test_memory_growth_is_a_variable_that_tensorflow_reads() -> None:
    found = importlib.util.find_spec("tensorflow")
    assert found is not None
    assert found.origin is not None
    (library,) = Path(found.origin).parent.glob("libtensorflow_framework.so.*")
    assert b"TF_FORCE_GPU_ALLOW_GROWTH\0" in library.read_bytes()


# ONNX Runtime is there wherever the tests run


def test_onnx_runtime_takes_options_and_providers(laid: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    module = laid("[framework]\nthreads = 'cgroup'\nonnxruntime = { gpu-mem-limit = '1g' }")
    monkeypatch.setattr("xoe_runtime.onnx.count_cpus", lambda: 2)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value], [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = module.session_options()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=module.providers())
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 2


def test_onnx_runtime_knows_the_names_of_the_providers() -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    known = onnxruntime.get_all_providers()
    assert {"TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"} <= set(known)
