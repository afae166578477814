"""The heavy workload: an ML service of about sixty wheels and four models, created and locked once, then kept.

Its wheels unpack to about half a gigabyte. Models are 128 MiB of random bytes each, because weights do not compress."""

from __future__ import annotations

from pathlib import Path

from buildkit.bench.project_copy import write_random
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.events import Emit, Note

STAGE = "app"
_MODELS = 4
_MODEL_BYTES = 128 << 20

_APP = '''"""A service in one file."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root() -> dict[str, str]:
    """Say that it is there."""
    return {"say": "hello"}
'''
_TEXTS = {
    "pyproject.toml": """[project]
name = "heavy"
version = "1.0"

[tool.buildkit]
python = "3.13"
bytecode = false
""",
    "requirements/ml.in": "numpy\nscipy\npandas\nscikit-learn\nonnxruntime\ntransformers\npillow\n",
    "requirements/api.in": "fastapi\nuvicorn\npydantic-settings\nhttpx\norjson\nprometheus-client\npython-multipart\n"
    "jinja2\naiohttp\nstructlog\n",
    "requirements/base.apt": "ca-certificates\nnetbase\npython3.13\nlibstdc++6\n",
    "requirements/models.toml": "\n".join(
        f'[[model]]\nname = "m{number}"\nsource = "path:models/m{number}"\nlicense = "CC0-1.0"\n'
        for number in range(1, _MODELS + 1)
    ),
    "stages/base/stage.toml": 'summary = "root"\n\n[root]\nsuite = "trixie"\npackages = "requirements/base.apt"\n',
    "stages/deps/stage.toml": 'summary = "wheels"\n\n[wheels]\n'
    'locks = ["requirements/ml.txt", "requirements/api.txt"]\n',
    "stages/models/stage.toml": 'summary = "models"\n\n[models]\nlock = "requirements/models.lock"\n',
    "stages/app/stage.toml": """summary = "the service"
from = "base"
include = ["deps", "models"]
ships = true

[[copy]]
source = "app"
target = "/app"

[config]
workdir = "/app"
cmd = ["uvicorn", "main:app", "--host", "0.0.0.0"]
""",
    "stages/app/app/main.py": _APP,
}


def ensure_heavy(folder: Path, emit: Emit) -> None:
    """Create and lock the project in ``folder`` unless it exists, so that races months apart have the same workload.

    Raises FetchError and ToolError if the package index or Debian's archive is unreachable.
    """
    from buildkit.resolve.all_locks import lock_all
    from buildkit.resolve.project_locks import make_request

    for path, text in _TEXTS.items():
        place = folder / path
        if not place.exists() or place.read_text("utf-8") != text:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
    for number in range(1, _MODELS + 1):
        weights = folder / f"models/m{number}/weights.bin"
        if not weights.exists() or weights.stat().st_size != _MODEL_BYTES:
            emit(Note(text=f"making {weights.relative_to(folder)}"))
            write_random(weights, _MODEL_BYTES, str(number))
    if not (folder / "requirements/models.lock").exists():
        emit(Note(text="locking the heavy workload, once"))
        request = make_request(load_project(folder), load_graph(folder))
        lock_all(request, emit)
