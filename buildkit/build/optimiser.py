"""The host's side of the optimiser: it starts the programs of ``buildkit/optimiser`` in a container, and asks them."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from buildkit.build.containers import ContainerRunner
from buildkit.build.context import BuildContext
from buildkit.build.model_files import open_model_file
from buildkit.build.model_folder import check_model_path
from buildkit.build.own_files import own_path
from buildkit.digest import FileHash
from buildkit.errors import BuildError, ToolError
from buildkit.locks.derivation import Derivation, script_path
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.compose import Composition
from buildkit.tools import buildah

_PROGRAMS = Path(__file__).parents[1] / "optimiser"
_LONGEST = 16 << 20  # bytes of an answer
_CHUNK = 1 << 20
_WORK = "/tmp/buildkit"  # noqa: S108 - in the container
_MOUNT = "/mnt"
# -I ignores the seed of hashes, so the program is started a second time with it
_START = """import os, sys
seed, *pipes = sys.argv[1:]
run = "import sys; sys.path.insert(0, '/mnt/programs'); from buildkit.optimiser.worker import main; main(sys.argv[1:])"
env = dict(os.environ, PYTHONHASHSEED=seed, HOME="/tmp", TMPDIR="/tmp", OMP_WAIT_POLICY="PASSIVE")
os.execve(sys.executable, [sys.executable, "-s", "-P", "-B", "-c", run, *pipes], env)
"""


class OptimiserEndedError(Exception):
    """The program ended before it answered; whoever started it says why."""


class RefusedError(BuildError):
    """The tool, a script or a metric refused; nothing is wrong with the container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """The folder that is mounted: programs, scripts, and models below ``models/NAME``."""

    folder: Path

    def add_programs(self) -> None:
        """Copy the programs, so that the container sees nothing else of this installation."""
        target = self.folder / "programs/buildkit/optimiser"
        target.mkdir(parents=True)
        for path in sorted(_PROGRAMS.glob("*.py")):
            shutil.copyfile(path, target / path.name)

    def add_model(self, context: BuildContext, model: Model, name: str) -> str:
        """Copy a model's files, verified, and return its folder in the container."""
        target = self.folder / "models" / name
        target.mkdir(parents=True)
        for file in model.files:
            (target / file.path).parent.mkdir(parents=True, exist_ok=True)
            with open_model_file(context, model, file) as content, (target / file.path).open("xb") as new:
                content.seek(0)
                shutil.copyfileobj(content, new, _CHUNK)
        return f"{_MOUNT}/models/{name}"

    def add_scripts(self, root: Path, derivation: Derivation) -> None:
        """Copy the scripts of a derivation."""
        for path in map(script_path, derivation.scripts):
            target = self.folder / "scripts" / path
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(own_path(root, path, "a script"), target)


class Optimiser:
    """A conversation with the programs; every question raises RefusedError for what the user must mend."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests = requests
        self._answers = answers

    def ask(self, do: str, **words: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        """Return the answer to a request."""
        self._send({"do": do, **words})
        answer = self._receive()
        if "error" in answer:
            raise RefusedError(str(answer["error"])[:2000])
        return answer

    def derive(self, derivation: Derivation, *, name: str, source: str, data: str) -> dict[str, Any]:
        """Make the files of a model; return their paths and sizes below ``work_folder(name)``, and the ranges."""
        answer = self.ask(
            "derive",
            tool=derivation.tool,
            options=derivation.settings,
            source=source,
            into=work_folder(name),
            ranges={tensor: list(pair) for tensor, pair in derivation.ranges},
            metric=derivation.gate.metric if derivation.gate else "",
            data=data,
        )
        check_made(answer)
        return answer

    def take(self, folder: str, files: list[Mapping[str, Any]], context: BuildContext) -> tuple[ModelFile, ...]:
        """Bring files below a folder of the container into the cache, under their hashes."""
        return tuple(self._take(folder, str(file["path"]), int(file["size"]), context) for file in files)

    def _take(self, folder: str, path: str, size: int, context: BuildContext) -> ModelFile:
        check_model_path(path, f"the tool made {path!r}, which")
        self._send({"do": "read", "path": f"{folder}/{path}"})
        if self._receive().get("size") != size:
            raise BuildError(f"{path} changed while it was read")
        digest, left = hashlib.sha256(), size
        progress = context.progress(path)
        with context.blobs.writing() as out:
            while left:
                chunk = self._answers.read(min(_CHUNK, left))
                if not chunk:
                    raise OptimiserEndedError
                digest.update(chunk)
                out.write(chunk)
                left -= len(chunk)
                progress(size - left)
            sha256 = FileHash(digest.hexdigest())
            context.blobs.keep(out, context.blobs.file_path(sha256, Path(path).name))
        return ModelFile(path=path, sha256=sha256, size=size, source="")

    def _send(self, request: Mapping[str, Any]) -> None:
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise OptimiserEndedError from None

    def _receive(self) -> dict[str, Any]:
        line = self._answers.readline(_LONGEST)
        if not line.endswith(b"\n"):
            raise OptimiserEndedError
        return parse_answer(line)


def parse_answer(line: bytes) -> dict[str, Any]:
    """Return an answer of the programs, in which a user's scripts run; raises BuildError for anything else."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise BuildError("the optimiser's answer is not JSON")
    return answer


def check_made(answer: Mapping[str, Any]) -> None:
    """Raise BuildError for an answer that does not say which files were made, how large, and by which ranges."""
    try:
        known = all(
            isinstance(file["path"], str) and type(file["size"]) is int and file["size"] >= 0
            for file in answer["files"]
        )
        finite = all(math.isfinite(low) and math.isfinite(high) for low, high in answer["ranges"].values())
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        known = finite = False
    if not (known and finite):
        raise BuildError("the optimiser does not say what it made", hint="does a script write into its pipes?")


def work_folder(name: str) -> str:
    """Return the folder, in the container, of the files that are made of a model."""
    return f"{_WORK}/{name}"


@contextmanager
def open_optimiser(
    containers: ContainerRunner, stage: Composition, workshop: Workshop, *, python: str, seed: int = 0
) -> Iterator[Optimiser]:
    """Start the programs in a container of ``stage``, without network, with a fixed ``seed`` of hashes.

    Raises BuildError if they end before they answered, as for lack of memory, and Interrupted.
    """
    argv = (python, "-I", "-c", _START, str(seed), *buildah.PIPES)
    ended = False
    try:
        with containers.open_program(stage, argv, workshop.folder) as (requests, answers):
            try:
                yield Optimiser(requests, answers)
            except OptimiserEndedError:
                ended = True
    except ToolError as error:
        what = f"the optimiser ended in a container of {stage.stage.name}: {error.message}"
        hint = error.hint or f"has {stage.stage.name} a Python, and its tool's libraries? was there enough memory?"
        raise BuildError(what, hint=hint, output=error.output) from error
    finally:
        for pipe in buildah.PIPES:
            (workshop.folder / Path(pipe).name).unlink(missing_ok=True)  # so that the next can be started
    if ended:
        raise BuildError(f"the optimiser in {stage.stage.name} ended before it answered")
