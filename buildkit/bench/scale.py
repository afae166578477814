"""Measure how planning scales: in wheels, gigabytes of models, and small files, of which nothing is built.

Wheels are only pins, because a plan needs no wheel. Models are up to 16 sparse files: their bytes are read once, when
they are first hashed (``first``), and later found by their stat (``seconds``). Of the small files, half are a
model's and half are copied.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from buildkit.bench.measure import RunCost, measure
from buildkit.bench.workload import NOXFILE, OUR_PYTHON, nox_argv
from buildkit.declare.project import load_project
from buildkit.digest import FileHash
from buildkit.errors import BuildError
from buildkit.events import Emit, StepFinished, StepStarted
from buildkit.locks.freshness import models_inputs, requirements_inputs, wheels_inputs
from buildkit.locks.model_source import RepoSource
from buildkit.locks.models_lock import ModelsLock, render_models_lock
from buildkit.locks.pins import Artifact, Model, ModelFile
from buildkit.locks.wheels_lock import make_wheels_lock, render_wheels_lock
from buildkit.tools.process import Command, run

WHEELS = (10, 50, 100, 200, 400)
GIGABYTES = (1, 4, 16, 64)
SMALL_FILES = (1_000, 40_000)
_GIGABYTE = 1_000_000_000
_FILES = 16  # at most, because each has its own layer
_LARGE, _SMALL = 5_000_000, 60_000  # bytes of a wheel; every tenth is large
_STAGES = {
    "stages/base/stage.toml": 'summary = "root"\n\n[root]\nimage = "localhost/base@sha256:' + "0" * 64 + '"\n',
    "stages/app/stage.toml": 'summary = "app"\nfrom = "base"\nships = true\n\n'
    '[wheels]\nlocks = ["requirements/app.txt"]\n\n[models]\nlock = "requirements/models.lock"\n',
    "pyproject.toml": '[project]\nname = "scale"\n\n[tool.buildkit]\nbytecode = false\n',
    "noxfile.py": NOXFILE,
}


def measure_scale(folder: Path, repeat: int, emit: Emit) -> Iterator[dict[str, float]]:
    """Yield ``{"wheels", "gigabytes", "files", "first", "seconds", "memory"}`` of every project.

    Seconds are medians of whole sessions; ``memory`` is the peak of all, the first among them, in bytes (0: unknown).
    """
    sizes = [(count, 0, 0) for count in WHEELS] + [(WHEELS[0], gigabytes, 0) for gigabytes in GIGABYTES]
    sizes += [(WHEELS[0], 0, files) for files in SMALL_FILES]
    for number, (wheels, gigabytes, files) in enumerate(sizes):
        place = folder / f"scale-{number}"
        step = f"{wheels} wheels, {gigabytes} GB of models, {files} small files"
        emit(StepStarted(step=step, phase="plan"))
        make_project(place, wheels, gigabytes, files)
        costs = [_plan(place) for _ in range(repeat + 1)]
        first, later = costs[0].seconds, statistics.median(cost.seconds for cost in costs[1:])
        memory = max(cost.memory or 0 for cost in costs)
        emit(StepFinished(step=step, phase="plan", seconds=later, note=f"the first time {first:.2f} s"))
        size = {"wheels": wheels, "gigabytes": gigabytes, "files": files}
        yield {**size, "first": first, "seconds": later, "memory": memory}


def make_project(folder: Path, wheels: int, gigabytes: int, small_files: int = 0) -> None:
    """Create a project with these pins, sparse and small files. Raises BuildError if the disk cannot hold them."""
    for path, text in _STAGES.items():
        _write(folder / path, text)
    artifacts = tuple(map(_artifact, range(wheels)))
    _write(folder / "requirements/app.in", "".join(f"{artifact.name}\n" for artifact in artifacts))
    _write_locks(folder, artifacts)
    files = []
    count = min(gigabytes, _FILES)
    for number in range(count):
        path, size = f"models/m{number}.bin", gigabytes * _GIGABYTE // count
        _make_sparse(folder / path, size)
        files.append(ModelFile(path=f"m{number}.bin", sha256=FileHash.of(path.encode()), size=size, source=path))
    files += _make_small_files(folder, small_files // 2)
    model = Model(name="m", version="", source=RepoSource(path="models"), license="", files=tuple(files))
    definition = '[[model]]\nname = "m"\nsource = "path:models"\n' if files else ""
    _write(folder / "requirements/models.toml", definition)
    lock = ModelsLock(
        inputs=models_inputs(definition),
        models=(model,) if files else (),
        requests=(FileHash.of(b"scale"),) if files else (),
    )
    _write(folder / "requirements/models.lock", render_models_lock(lock))


def _make_small_files(folder: Path, count: int) -> list[ModelFile]:
    """Create ``count`` files to copy, and as many of the model, which are returned."""
    if not count:
        return []
    files = []
    for number in range(count):
        name, text = f"d{number // 200}/f{number}.txt", f"{number}\n"
        _write(folder / "stages/app/app" / name, text)
        _write(folder / "models" / name, text)
        sha256 = FileHash.of(text.encode())
        files.append(ModelFile(path=name, sha256=sha256, size=len(text), source=f"models/{name}"))
    stage = folder / "stages/app/stage.toml"
    _write(stage, f'{stage.read_text("utf-8")}\n[[copy]]\nsource = "app"\ntarget = "/app"\n')
    for words in (("init", "--quiet"), ("add", "stages")):
        run(Command(argv=("git", *words), cwd=folder, what="making a repository of small files"))
    return files


def _artifact(number: int) -> Artifact:
    name = f"wheel-{number:03d}"
    digits = hashlib.sha256(name.encode()).hexdigest()
    size = _SMALL if number % 10 else _LARGE
    file = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    return Artifact(name=name, version="1.0", file=file, sha256=FileHash(digits), size=size)


def _write_locks(folder: Path, artifacts: tuple[Artifact, ...]) -> None:
    from buildkit.bench.lock_changes import render_pin
    from buildkit.locks.freshness import render_header

    project = load_project(folder)

    def read(path: str) -> str | None:
        return (folder / path).read_text("utf-8") if (folder / path).exists() else None

    inputs = requirements_inputs("requirements/app.in", read, project.target, locker=project.locker)
    lock = render_header(inputs) + "".join(map(render_pin, artifacts))
    _write(folder / "requirements/app.txt", lock)
    wheels = make_wheels_lock(wheels_inputs(lock, project.target), project.target, artifacts)
    _write(folder / "requirements/app.wheels.toml", render_wheels_lock(wheels))


def _make_sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    if path.stat().st_blocks > size // 1024:
        raise BuildError(f"{path.parent}: this file system has no sparse files", hint="name another by TMPDIR")
    old = time.time() - 60
    os.utime(path, (old, old))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _plan(folder: Path) -> RunCost:
    env = {**OUR_PYTHON, "BUILDKIT_CACHE": str(folder / "cache")}
    ran = measure([Command(argv=nox_argv(folder, "plan", "app", "--json"), env=env, what="planning")])
    if ran.finished is None:
        raise BuildError(ran.error, output=ran.output)
    return ran.cost
