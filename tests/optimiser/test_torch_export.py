"""PyTorch to ONNX, where PyTorch is installed: it is several gigabytes, so the suite's environment has none."""

import io
import json
from pathlib import Path

import pytest

from buildkit.optimiser.worker import serve

torch = pytest.importorskip("torch", reason="PyTorch is too large for the suite: uv pip install torch onnxscript")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporter, about itself

SCRIPT = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(16, 32), torch.nn.Linear(32, 4)

    def forward(self, x):
        return torch.softmax(self.outer(torch.relu(self.inner(x))), -1)

def make(folder):
    net = Net()
    net.load_state_dict(torch.load(folder / "net.pt", weights_only=True))
    return net, (torch.zeros(2, 16),), {"input_names": ["x"], "output_names": ["y"]}

def wrong(folder):
    return Net()
"""


def derive(folder: Path, tool: str, into: Path, **options: object) -> dict[str, object]:
    answers = io.BytesIO()
    request = {"do": "derive", "tool": tool, "source": str(folder / "source"), "into": str(into), "options": options}
    serve(io.BytesIO(json.dumps({**request, "scripts": str(folder)}).encode() + b"\n"), answers)
    return json.loads(answers.getvalue())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "make.py").write_text(SCRIPT)
    (tmp_path / "source").mkdir()
    inner, outer = torch.nn.Linear(16, 32), torch.nn.Linear(32, 4)
    state = {f"{name}.{key}": value for name, each in (("inner", inner), ("outer", outer))
             for key, value in each.state_dict().items()}  # fmt: skip
    torch.save(state, tmp_path / "source/net.pt")
    return tmp_path


def test_module_becomes_the_same_graph_twice_without_paths(folder, tmp_path):
    first = derive(folder, "torch-to-onnx", tmp_path / "one", export="make.py:make")
    assert first["files"] == derive(folder, "torch-to-onnx", tmp_path / "two", export="make.py:make")["files"]
    data = (tmp_path / "one/model.onnx").read_bytes()
    assert str(tmp_path).encode() not in data
    assert b"make.py" not in data


def test_script_that_returns_no_module_is_told(folder, tmp_path):
    answer = derive(folder, "torch-to-onnx", tmp_path / "one", export="make.py:wrong")
    assert answer["error"] == "make.py:wrong must return (module, arguments) or (module, arguments, keywords)"


def test_tensors_are_those_of_the_library(folder, tmp_path):
    load_file = pytest.importorskip("safetensors.torch").load_file
    derive(folder, "to-safetensors", tmp_path / "one")
    read, saved = load_file(tmp_path / "one/net.safetensors"), torch.load(folder / "source/net.pt", weights_only=True)
    assert read.keys() == saved.keys()
    assert all(torch.equal(read[name], saved[name]) for name in saved)
