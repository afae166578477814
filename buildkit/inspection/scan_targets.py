"""Find the files to scan: the models of stages, or files and folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from buildkit.build.context import BuildContext
from buildkit.build.disk_checkout import DiskCheckout
from buildkit.build.model_files import ensure_download, open_model_file
from buildkit.build.model_gate import model_file_name
from buildkit.declare.graph import Graph, load_graph
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.locks.models_lock import parse_models_lock
from buildkit.locks.pins import Model, ModelFile

_SKIPPED = (".git", "__pycache__")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanTarget:
    """A file to scan: its name in findings, and its place: a path, or a file of a locked model.

    ``sha256`` is known for files of models; ``locked`` is the hash of the lock, which may differ for local files.
    """

    name: str
    path: Path | None = None
    model: Model | None = None
    file: ModelFile | None = None
    locked: FileHash | None = None

    @property
    def sha256(self) -> FileHash | None:
        """The hash of the content, if it is known without reading it."""
        return self.file.sha256 if self.file is not None else None

    def open(self, context: BuildContext) -> AbstractContextManager[BinaryIO]:
        """Open the content; raises OSError, and BuildError for a model that cannot be fetched as locked."""
        if self.path is not None:
            return _open_regular(self.path)
        assert self.model is not None  # noqa: S101 - it is one or the other
        assert self.file is not None  # noqa: S101
        ensure_download(context, self.model, self.file, context.progress(f"{self.model.name}: {self.file.path}"))
        return open_model_file(context, self.model, self.file)


def find_targets(context: BuildContext, words: Sequence[str]) -> list[ScanTarget]:
    """Return the files of stages, files and folders, each once; without words, the models of all stages.

    Raises DefinitionError for a word that names nothing, and for wrong or stale locks.
    """
    folder = context.project.folder
    graph = load_graph(folder) if not words or any((folder / "stages" / word).is_dir() for word in words) else None
    stages = [word for word in words if graph is not None and word in graph.stages]
    targets: dict[str, ScanTarget] = {}
    if graph is not None and (stages or not words):
        targets |= {target.name: target for target in _models(context, graph, stages or list(graph.stages))}
    for word in words:
        if word not in stages:
            targets |= {target.name: target for target in _files(folder, word)}
    return list(targets.values())


def _models(context: BuildContext, graph: Graph, stages: Sequence[str]) -> Iterator[ScanTarget]:
    """Yield the files of the models of stages and of all that these are made of."""
    parts = (part for name in stages for part in graph.resolve(name).parts)
    locks = dict.fromkeys(part.models.lock for part in parts if part.models is not None)
    checkout = DiskCheckout(context.project, graph, context.stat_index, context.emit)
    for lock in locks:
        models = checkout.models(lock)
        written = parse_models_lock(checkout.read(lock) or "", lock).models
        for model, locked in zip(models, written, strict=True):
            for file, line in zip(model.files, locked.files, strict=True):
                yield ScanTarget(name=model_file_name(model, file), model=model, file=file, locked=line.sha256)


def _files(folder: Path, word: str) -> Iterator[ScanTarget]:
    path = folder / word
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DefinitionError(
            f"{word}: {error.strerror}", hint="name a stage, or a file or a folder that is there"
        ) from error
    if stat.S_ISDIR(mode):
        yield from (_file(folder, below) for below in _walk(path))
    elif stat.S_ISREG(mode):
        yield _file(folder, path)
    else:
        raise DefinitionError(f"{word}: neither a file nor a folder")


def _file(folder: Path, path: Path) -> ScanTarget:
    whole = Path(os.path.normpath(path))
    inside = whole.is_relative_to(folder)
    return ScanTarget(name=str(whole.relative_to(folder) if inside else whole), path=whole)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, by name; links to files are followed, since model caches consist of them."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file() or path.is_symlink():
                yield path


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file; do not block on a pipe without a writer."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DefinitionError(f"{path}: not a regular file")
    return os.fdopen(handle, "rb")
