"""A service as the *Advanced ML Podman Development Optimization Guide* makes one, mended so that it runs.

The guide gives a Containerfile, settings of ONNX Runtime and uvicorn's command, and no application. Every choice that
it leaves open is made in its favour: ONNX Runtime and no torch, libraries of today, work in threads, no limits.

Mended: the root is this project's Debian, for `python:3.12-slim` is on a registry; packages that Debian does not have
(libgthread, CUDA's) are left out; wheels are made with their dependencies, or nothing could be installed; the user is
made with a home; the health check stands on one line and asks for what is installed. CUDA's provider is named as in
the guide, and used where ONNX Runtime has it.
"""

from __future__ import annotations

import os
from pathlib import Path

from buildkit.bench.serve_container import ServedImage
from buildkit.tools.process import Command, run

IMAGE = "localhost/bench/guide:latest"
NAME = "the guide's"

_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

_CONTAINERFILE = """\
ARG ROOT
FROM ${ROOT} AS base
USER 0
RUN apt-get update && apt-get install -y \\
    curl git build-essential libgomp1 libglib2.0-0 libsm6 libxext6 libxrender-dev \\
    python3-pip python3-venv \\
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/guide
ENV PATH=/opt/guide/bin:$PATH

FROM base AS builder
RUN apt-get update && apt-get install -y cmake ninja-build && rm -rf /var/lib/apt/lists/*
ENV CMAKE_BUILD_PARALLEL_LEVEL=8
WORKDIR /build

FROM builder AS python-deps
ARG PIP_CERT
RUN pip install --upgrade pip setuptools wheel
COPY requirements-api.txt requirements-ml.txt ./
RUN pip wheel -r requirements-api.txt -w /wheels
RUN pip wheel -r requirements-ml.txt -w /wheels
RUN pip download --no-deps -d /models silero-vad==6.2.3 && cd /models && python -m zipfile -e *.whl .

FROM base AS runtime
COPY --from=python-deps /wheels /wheels
RUN pip install --no-cache-dir --no-index /wheels/* && rm -rf /wheels
RUN apt-get update && apt-get install -y ffmpeg libsndfile1 && rm -rf /var/lib/apt/lists/*
COPY --from=python-deps /models/silero_vad/data/silero_vad.onnx /app/models/
COPY app/ /app/
WORKDIR /app
USER 1000
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3 CMD python -c "import onnxruntime" || exit 1
CMD ["python", "-m", "uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]
"""

_REQUIREMENTS = {
    "requirements-api.txt": "fastapi\nuvicorn\n",
    "requirements-ml.txt": "numpy\nonnxruntime\nsoundfile\nsoxr\n",
}

_APP = '''\
"""Speech detection with the guide's session: the published streaming model, window by window."""

import io

import numpy as np
import onnxruntime as ort
import soundfile
import soxr
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

session_options = ort.SessionOptions()
session_options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
session_options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
providers = [name for name in wanted if name in ort.get_available_providers()]
session = ort.InferenceSession("models/silero_vad.onnx", sess_options=session_options, providers=providers)
app = FastAPI()


def analyse(body):
    samples, rate = soundfile.read(io.BytesIO(body), dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate, 16000)
    state, context, found = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for first in range(0, len(mono), 512):
        window = np.pad(mono[first : first + 512], (0, max(0, first + 512 - len(mono))))
        given = np.concatenate((context, window))[None]
        value, state = session.run(None, {"input": given, "state": state, "sr": np.array(16000)})
        context = window[-64:]
        found.append(float(value[0, 0]))
    return found


@app.get("/health")
async def health():
    return {"status": "up"}


@app.post("/v1/speech")
async def find_speech(request: Request):
    found = await run_in_threadpool(analyse, await request.body())
    return {"speech_seconds": round(sum(value >= 0.5 for value in found) * 0.032, 3), "windows": len(found)}
'''


def build_guide(root: str, folder: Path) -> ServedImage:
    """Build its image on the image ``root``, with buildah, in ``folder``; it needs Debian's mirror and PyPI.

    Raises MissingTool and ToolError.
    """
    (folder / "app").mkdir(parents=True)
    (folder / "app/main.py").write_text(_APP, "utf-8")
    (folder / "Containerfile").write_text(_CONTAINERFILE, "utf-8")
    for name, text in _REQUIREMENTS.items():
        (folder / name).write_text(text, "utf-8")
    trust = (f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro", f"--build-arg=PIP_CERT={_CERTIFICATES}")
    argv = (
        "buildah", "build", "--layers",
        "--isolation", os.environ.get("BUILDAH_ISOLATION") or "chroot",
        "--format", "docker",  # OCI images have no HEALTHCHECK
        "--build-arg", f"ROOT={root}",
        *(trust if os.environ.get("PIP_CERT") == _CERTIFICATES else ()),
        "--tag", IMAGE,
        "--", str(folder),
    )  # fmt: skip
    run(Command(argv=argv, what="building the guide's image"))
    return ServedImage(name=NAME, image=IMAGE, ready="/health")
