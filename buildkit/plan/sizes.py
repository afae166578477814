"""Estimate the size of a layer's tar before it is built. The order of layers uses `Spec.weight` instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from buildkit.layers.framework import layer_texts
from buildkit.layers.tar.header import BLOCK, END, header_size
from buildkit.plan.model_layout import snapshot_links, snapshot_refs
from buildkit.plan.spec import PackFiles, PackFramework, PackLinks, PackModel, Spec


def estimate_size(spec: Spec) -> int:
    """Return the bytes of the tar: exact for files and models, an estimate for wheels, 0 if unknown."""
    work = spec.work
    match work:
        case PackFiles():
            return _tar_size(_files(work))
        case PackModel():
            folder = work.target.strip("/")
            files = [(f"{folder}/{work.place(file)}", file.size, "") for file in work.files]
            if snapshot := work.snapshot:
                files += [(f"{folder}/{path}", 0, target) for path, target in snapshot_links(snapshot).items()]
                files += [(f"{folder}/{path}", len(text), "") for path, text in snapshot_refs(snapshot).items()]
            return _tar_size(files)
        case PackFramework():
            folder = work.target.strip("/")
            texts = layer_texts(work.settings)
            return _tar_size((f"{folder}/{name}", len(text.encode()), "") for name, text in texts.items())
        case PackLinks():
            return _tar_size((path.strip("/"), 0, target) for path, target in work.links)
        case _:
            return spec.weight


def _files(work: PackFiles) -> Iterator[tuple[str, int, str]]:
    folder = work.copy.target.strip("/")
    for file in work.tree.files:
        path = folder if file.path == "." else f"{folder}/{file.path}".lstrip("/")
        yield path, 0 if file.link else file.size, file.link


def _tar_size(members: Iterable[tuple[str, int, str]]) -> int:
    """Return the bytes of a tar of files, given their paths, sizes and, for links, targets."""
    size = len(END)
    parents = {""}
    for path, length, link in members:
        size += header_size(path, length, link) + length + -length % BLOCK
        parent = path.rpartition("/")[0]
        while parent not in parents:
            parents.add(parent)
            size += header_size(parent + "/")
            parent = parent.rpartition("/")[0]
    return size
