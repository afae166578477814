"""The small layer of a model repository: reads the graphs of its models, and writes their configurations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from buildkit.digest import FileHash
from buildkit.errors import BuildError, MismatchError
from buildkit.layers.models import OpenFile
from buildkit.layers.tar.member import Member
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.spec import PackServing
from buildkit.triton.files import repository_files
from buildkit.triton.onnx_graph import GraphError, OnnxGraph, read_graph


class ServedGraph(NamedTuple):
    """A graph that a configuration is made from: the model's name for clients, its version, and the locked file."""

    name: str
    version: int
    model: Model
    file: ModelFile


def graphs_of(work: PackServing) -> Iterator[ServedGraph]:
    """Yield the graphs of a repository."""
    for model in work.repository.models:
        for folder in model.folders:
            if folder.graph:
                yield ServedGraph(model.name, folder.number, folder.model, folder.graph)


def members_of_serving(work: PackServing, open_model: Callable[[Model], OpenFile]) -> Iterator[Member]:
    """Yield the files of a repository that are not the models themselves, sorted by path.

    Raises DefinitionError for a configuration or an ensemble that does not fit the graphs, BuildError for a file that
    is no graph, and MismatchError for other bytes than those of the lock.
    """
    read: dict[FileHash, OnnxGraph] = {}
    graphs = {}
    for one in graphs_of(work):
        if one.file.sha256 not in read:
            read[one.file.sha256] = _read(one, open_model(one.model))
        graphs[one.name, one.version] = read[one.file.sha256]
    texts = repository_files(work.repository, graphs)
    for path, text in sorted(texts.items()):
        place = f"{work.repository.target.strip('/')}/{path}"
        if text is None:
            yield Member(path=place, kind="directory")
        else:
            data = text.encode()
            yield Member(path=place, size=len(data), content=partial(iter, (data,)))


def _read(one: ServedGraph, opened: OpenFile) -> OnnxGraph:
    seen = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        for chunk in opened(one.file):
            seen.update(chunk)
            yield chunk

    try:
        graph = read_graph(chunks())
    except GraphError as error:
        hint = "serve a file that ONNX Runtime reads"
        raise BuildError(f"{one.model.name}: {one.file.path} {error}", hint=hint) from None
    if FileHash(seen.hexdigest()) != one.file.sha256:
        raise MismatchError(f"{one.model.name}: {one.file.path} is not the file of the lock", hint="run: nox -s lock")
    return graph
