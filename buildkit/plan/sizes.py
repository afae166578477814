"""How large a layer will be as a tar, before there is one. The order of layers goes by `Spec.weight` instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from buildkit.layers.tar.header import BLOCK, END, header_size
from buildkit.plan.spec import PackFiles, PackModel, Spec


def estimate_size(spec: Spec) -> int:
    """Bytes of the tar: exact for files and models, a guess for wheels, 0 where nobody knows."""
    work = spec.work
    match work:
        case PackFiles():
            return _tar_size(_files(work))
        case PackModel():
            folder = work.target.strip("/")
            return _tar_size((f"{folder}/{file.path}", file.size, "") for file in work.files)
        case _:
            return spec.weight


def _files(work: PackFiles) -> Iterator[tuple[str, int, str]]:
    folder = work.copy.target.strip("/")
    for file in work.tree.files:
        path = folder if file.path == "." else f"{folder}/{file.path}".lstrip("/")
        yield path, 0 if file.link else file.size, file.link


def _tar_size(members: Iterable[tuple[str, int, str]]) -> int:
    """Bytes of the tar of files: their paths, sizes, and where they lead if they are links."""
    size = len(END)
    parents = {""}
    for path, length, link in members:
        size += header_size(path, size=length, link=link) + length + -length % BLOCK
        parent = path.rpartition("/")[0]
        while parent not in parents:
            parents.add(parent)
            size += header_size(parent + "/")
            parent = parent.rpartition("/")[0]
    return size
