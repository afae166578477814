"""Where the service, its model and real speech are found: in the image, or in a checkout."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
PLACES = (HERE.parent, HERE.parents[1] / "runtime" / "app", Path("/app"))  # /app/tests; a checkout; anywhere else


def find_app() -> Path:
    for place in PLACES:
        if (place / "main.py").is_file() and (place / "detector.py").is_file():
            return place
    raise pytest.UsageError(f"the service is in none of {', '.join(map(str, PLACES))}")


APP = find_app()
sys.path.insert(0, str(APP))
# the module xoe_runtime, which an image has among its wheels
PYTHONPATH = ":".join(str(one / "buildkit") for one in HERE.parents if (one / "buildkit/xoe_runtime").is_dir())
sys.path += filter(None, [PYTHONPATH])

from clips import Clip, make_clip, wait_until_ready  # noqa: E402 - the path first
from fastapi.testclient import TestClient  # noqa: E402
from processes import Start  # noqa: E402

from api import create_app  # noqa: E402
from detector import Detector, load_detector  # noqa: E402
from settings import Settings  # noqa: E402


@pytest.fixture(scope="session")
def app_folder() -> Path:
    return APP


@pytest.fixture(scope="session")
def model_path() -> Path:
    path = Path(os.environ.get("SPEECH_MODEL") or Settings.model_fields["model"].default)
    if not path.is_file():
        pytest.fail(f"{path} is missing: set SPEECH_MODEL to silero_vad_16k_sequence.onnx", pytrace=False)
    return path


@pytest.fixture(scope="session")
def detector(model_path: Path) -> Detector:
    return load_detector(model_path, 1)


@pytest.fixture(scope="session")
def speech() -> Clip:
    """Speech, mono, with a second of silence on either side; SPEECH_SAMPLE names another file of it."""
    path = Path(os.environ.get("SPEECH_SAMPLE") or HERE / "speech.ogg")  # spoken by espeak-ng
    if not path.is_file():
        pytest.fail(f"SPEECH_SAMPLE names {path}, which is no file", pytrace=False)
    clip = make_clip(path)
    silence = np.zeros(clip.rate, np.float32)
    return Clip(samples=np.concatenate((silence, clip.samples, silence)), rate=clip.rate)


@pytest.fixture
def make_settings(model_path: Path) -> Callable[..., Settings]:
    def make(**given: object) -> Settings:
        return Settings.model_validate({"model": model_path, "workers": 2, **given})

    return make


@pytest.fixture
def client(make_settings: Callable[..., Settings]) -> Iterator[TestClient]:
    with TestClient(create_app(make_settings())) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        number: int = one.getsockname()[1]
        return number


@pytest.fixture
def run(app_folder: Path, model_path: Path, port: int) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*argv: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-B", *argv],
            cwd=app_folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": PYTHONPATH,
                "HOME": "/nonexistent",
                "TMPDIR": "/nonexistent",
                "SPEECH_HOST": "127.0.0.1",
                "SPEECH_PORT": str(port),
                "SPEECH_MODEL": str(model_path),
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
