"""The workload: the reference project, the heavy one, or any project of this kind, prepared for a race.

Everything from the network is fetched before the clock starts, and kept for the next race."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import buildkit
from buildkit.bench.environment import RaceEnvironment
from buildkit.bench.project_copy import ProjectChange, ProjectCopy, copy_file, only_root
from buildkit.bench.root_images import fetch_root, keep_root, push_root
from buildkit.errors import DefinitionError
from buildkit.events import Emit, Note, StepFinished, StepStarted
from buildkit.locks.pins import Artifact
from buildkit.tools.git import list_files
from buildkit.tools.process import Command, run
from buildkit.worker_pool import WorkerPool

NOXFILE = """import nox

from buildkit.sessions import register

register()


@nox.session(python=False, venv_backend="none")
def empty(session):
    \"\"\"Do nothing: what any session costs.\"\"\"
"""
_ROOT_STAGE = "bench-root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A checkout to race with, and the layout of the root it starts from."""

    name: str
    checkout: ProjectCopy
    root: Path
    environment: RaceEnvironment

    @property
    def root_layers(self) -> int:
        """The number of layers of the root."""
        return len(json.loads((self.root / "manifest.json").read_bytes())["layers"])

    def describe(self) -> dict[str, Any]:
        """Return name, stage, and numbers and bytes of wheels and model files."""
        wheels = self.checkout.artifacts()
        models = [file for _, file in self.checkout.models()]
        return {
            "name": self.name,
            "stage": self.checkout.stage,
            "wheels": len({wheel.name for wheel in wheels}),
            "wheel bytes": sum({wheel.file: wheel.size for wheel in wheels}.values()),
            "models": len(models),
            "model bytes": sum(file.size for file in models),
        }

    def empty_session(self) -> Command:
        """Return the command of an empty session of the checkout."""
        argv = nox_argv(self.checkout.folder, "empty")
        return Command(argv=argv, env=OUR_PYTHON, what="an empty session")

    def prepare_peers(self, change: ProjectChange | None = None) -> ProjectChange:
        """Update the peers' build context, and add its differences to the change."""
        from buildkit.bench.context import write_context

        written = write_context(self.checkout)
        return replace(change, inputs=(*change.inputs, *written)) if change else ProjectChange()

    def whole(self) -> ProjectChange:
        """Return everything an image must contain."""
        return self.checkout.whole()

    def use_root(self, number: int) -> str:
        """Push a variant of the root and make the checkout start from it, pinned by digest."""
        ref = push_root(
            self.root,
            self.environment.folder / "root-work",
            f"{self.environment.proxy.host}/bench/root:{number}",
            number,
        )
        self.checkout.set_root(ref)
        return ref


# our sessions use this package, with bytecode as any installation has it
OUR_PYTHON = {"PYTHONPATH": str(Path(buildkit.__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": ""}


def nox_argv(folder: Path, session: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of a session of the project in ``folder``."""
    return (sys.executable, "-m", "nox", "-f", str(folder / "noxfile.py"), "-s", session, "--", *arguments)


def make_workload(source: Path, stage: str, environment: RaceEnvironment, keep: Path, emit: Emit) -> Workload:
    """Copy the project in ``source`` into the environment, with the inputs of ``stage`` and its root.

    Raises DefinitionError, FetchError and ToolError.
    """
    folder, links = environment.folder / "checkout", environment.folder / "links"
    links.mkdir()
    _copy_project(source, folder)
    _settle(folder)
    checkout = ProjectCopy(folder, stage, links)
    models = [file.source for _, file in checkout.models()]
    for path in models:
        copy_file(source / path, folder / path)
    _fetch(checkout, keep / "wheels", emit)
    _commit(folder, models)
    root = environment.folder / "root"
    _make_root(checkout, root, keep, environment, emit)
    workload = Workload(name=source.name, checkout=checkout, root=root, environment=environment)
    workload.use_root(0)
    return workload


def choose_stage(checkout_stages: Mapping[str, Any], requested: str) -> str:
    """Return the wanted stage, or the only one that ships. Raises DefinitionError."""
    if requested:
        if requested not in checkout_stages:
            raise DefinitionError(f"there is no stage `{requested}`", hint=f"stages: {', '.join(checkout_stages)}")
        return requested
    shipping = [name for name, stage in checkout_stages.items() if stage.ships]
    if len(shipping) != 1:
        raise DefinitionError(
            f"{len(shipping)} stages ship: {', '.join(shipping)}", hint="say which one to build by --stage"
        )
    return shipping[0]


def _copy_project(source: Path, folder: Path) -> None:
    listing = list_files(source, ".")
    names = listing.tracked if listing else tuple(_all_files(source))
    for name in names:
        if (source / name).is_file() or (source / name).is_symlink():
            copy_file(source / name, folder / name)


def _all_files(source: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(source):
        own = {"models"} if parent == str(source) else set()
        folders[:] = sorted(set(folders) - {".git", ".venv", ".nox", "__pycache__"} - own)
        yield from (os.path.relpath(Path(parent) / name, source) for name in sorted(names))


def _settle(folder: Path) -> None:
    """Write our own noxfile, without bytecode (peers compile none either) and without a remote cache."""
    (folder / "noxfile.py").write_text(NOXFILE, "utf-8")
    path = folder / "pyproject.toml"
    text = path.read_text("utf-8") if path.exists() else ""
    text = re.sub(r"^(bytecode|cache|cache-write)\s*=.*\n", "", text, flags=re.MULTILINE)
    if "[tool.buildkit]" not in text:
        text += "\n[tool.buildkit]\n"
    path.write_text(text.replace("[tool.buildkit]\n", "[tool.buildkit]\nbytecode = false\n", 1), "utf-8")


def _commit(folder: Path, models: Iterable[str]) -> None:
    """Create a git repository without models and without the peers' context."""
    with (folder / ".gitignore").open("a", encoding="utf-8") as file:
        file.write("\n".join(["", "/bench/", *(f"/{path}" for path in models), ""]))
    git = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false")
    for argv in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message=All of it")):
        run(Command(argv=(*git, *argv), cwd=folder, what="git"))


def _fetch(checkout: ProjectCopy, kept: Path, emit: Emit) -> None:
    """Fetch every locked wheel, from the kept folder, or from the index into it."""
    from buildkit.build.fetch import make_fetcher
    from buildkit.locks.models_lock import parse_models_lock

    artifacts = {artifact.file: artifact for artifact in checkout.artifacts() if artifact.sha256}
    for part in checkout.graph.resolve(checkout.stage).parts:
        if part.models is not None:
            lock = parse_models_lock((checkout.folder / part.models.lock).read_text("utf-8"), part.models.lock)
            artifacts |= {model.wheel.file: model.wheel for model in lock.models if model.wheel}
    fetcher = make_fetcher(checkout.folder, checkout.project.target, threading.Event())

    def fetch(artifact: Artifact) -> None:
        path = kept / (artifact.sha256.hex if artifact.sha256 else "") / artifact.file
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fetcher.fetch(artifact, path, progress=lambda _done: None)
            emit(Note(text=f"fetched {artifact.file}"))
        _link(path, checkout.links / artifact.file)

    try:
        with WorkerPool(4) as pool:
            list(pool.map(fetch, artifacts.values()))
    finally:
        fetcher.close()


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _make_root(checkout: ProjectCopy, folder: Path, keep: Path, environment: RaceEnvironment, emit: Emit) -> None:
    """Return the root as a layout: fetched, or built by us with a cache that is kept."""
    stage = checkout.graph.resolve(checkout.stage).chain[0]
    arch = checkout.project.target.deb_arch
    began = time.monotonic()
    emit(StepStarted(step="root", phase="prepare"))
    if stage.image:
        fetch_root(stage.image, folder, arch)
    else:
        keep_root(_build_root(checkout, keep, environment), keep / "cache", folder, arch)
    emit(StepFinished(step="root", phase="prepare", seconds=time.monotonic() - began))


def _build_root(checkout: ProjectCopy, keep: Path, environment: RaceEnvironment) -> list[dict[str, Any]]:
    work, report = environment.folder / "root-project", environment.folder / "root.json"
    stage = checkout.graph.resolve(checkout.stage).chain[0]
    shutil.copytree(checkout.folder / "requirements", work / "requirements")
    (work / f"stages/{_ROOT_STAGE}").mkdir(parents=True)
    lines = only_root((checkout.folder / stage.file).read_text("utf-8").splitlines())
    (work / f"stages/{_ROOT_STAGE}/stage.toml").write_text("\n".join(['summary = "root"', "", *lines, ""]), "utf-8")
    text = (checkout.folder / "pyproject.toml").read_text("utf-8")
    text = re.sub(r"^compression\s*=.*\n", "", text, flags=re.MULTILINE)
    (work / "pyproject.toml").write_text(
        text.replace("[tool.buildkit]\n", '[tool.buildkit]\ncompression = "gzip"\n', 1), "utf-8"
    )
    (work / "noxfile.py").write_text(NOXFILE, "utf-8")
    env = {"BUILDKIT_CACHE": str(keep / "cache"), "BUILDKIT_DELIVERY": "import", **OUR_PYTHON}  # the store has no blobs
    argv = nox_argv(work, f"build-{_ROOT_STAGE}", "--no-import", "--json", str(report))
    run(Command(argv=argv, env=env, what="building the root"))
    layers: list[dict[str, Any]] = json.loads(report.read_text("utf-8"))["layers"]
    return layers
