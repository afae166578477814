"""Models that a Containerfile downloads become models of the lock, at the folder in which it puts them."""

from __future__ import annotations

import pytest

from buildkit.adopt.draft import ImageDraft, Leftover, ModelDraft
from buildkit.adopt.reading import RepositoryFacts
from buildkit.adopt.translate import translate
from buildkit.declare.instructions import read_containerfile

WHISPER = ModelDraft(
    name="whisper", source="hf:openai/whisper-tiny", target="/models", files=("*.json", "*.safetensors"), version="v1"
)
HUB = ModelDraft(name="minilm", source="hf:org/minilm", target="/models")


def run(command: str) -> tuple[ImageDraft, tuple[Leftover, ...]]:
    file = read_containerfile(f"FROM python:3.13\nARG MODEL=openai/whisper-tiny\nRUN {command}", "Dockerfile")
    return translate(file, file.stages[0], RepositoryFacts(exists=lambda _: True))


@pytest.mark.parametrize(
    "command",
    [
        "huggingface-cli download $MODEL --revision v1 --local-dir /models/whisper --include '*.json' '*.safetensors'",
        "hf download ${MODEL} '*.json' '*.safetensors' --revision=v1 --local-dir=/models/whisper",
        "cd /models && hf download $MODEL --revision v1 --include *.json --include *.safetensors --local-dir whisper",
    ],
)
def test_download_into_a_folder_is_a_model(command: str) -> None:
    image, leftovers = run(command)
    assert (list(image.models), leftovers) == ([WHISPER], ())


@pytest.mark.parametrize(
    "command",
    [
        "hf download org/minilm",
        """python -c "from huggingface_hub import snapshot_download; snapshot_download('org/minilm')\"""",
        """python3 -c 'import sentence_transformers as s; s.SentenceTransformer("org/minilm", device="cpu")'""",
        "python - <<'END'\nfrom transformers import AutoModel\nAutoModel.from_pretrained('org/minilm')\nEND",
    ],
)
def test_download_into_the_cache_of_the_hub_gets_a_folder_and_is_told(command: str) -> None:
    image, (found,) = run(command)
    assert list(image.models) == [HUB]
    assert "load it from /models/minilm, not by its name" in found.advice


def test_single_file_of_the_hub() -> None:
    image, _ = run("""python -c "hf_hub_download('org/minilm', 'model.onnx', revision='main', local_dir='/m/x')\"""")
    (model,) = image.models
    assert (model.files, model.version, model.target, model.name) == (("model.onnx",), "main", "/m", "x")


@pytest.mark.parametrize(
    "command",
    [
        "curl -fsSL -o /opt/vad/vad.onnx https://x.example/v/vad.onnx",
        "curl -fsSLo /opt/vad/vad.onnx https://x.example/v/vad.onnx",
        "wget -q https://x.example/v/vad.onnx -O /opt/vad/vad.onnx && echo 'abc vad.onnx' | sha256sum -c -",
    ],
)
def test_model_of_the_web(command: str) -> None:
    image, leftovers = run(command)
    assert list(image.models) == [ModelDraft(name="vad", source="https://x.example/v/vad.onnx", target="/opt")]
    assert leftovers == ()


@pytest.mark.parametrize(
    "command",
    [
        "wget -O /opt/vad/other.onnx https://x.example/v/vad.onnx",
        "curl -o /opt/vad/tool https://x.example/tool",
        "curl -o /opt/a/a.onnx https://x.example/a.onnx https://x.example/b.onnx",
        "hf download org/data --repo-type dataset",
        "hf download org/minilm --exclude '*.bin'",
        "python -c \"import nltk; nltk.download('punkt')\"",
    ],
)
def test_what_is_no_model_is_left_over(command: str) -> None:
    image, leftovers = run(command)
    assert (len(image.models), len(leftovers)) == (0, 1)
