"""The members of layers that are packed from values and files alone: files, links, models and SBOMs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from buildkit.layers.files import CopiedFile, file_members
from buildkit.layers.framework import framework_members
from buildkit.layers.models import OpenFile, forward_reader, model_members, snapshot_members, worth_compressing
from buildkit.layers.tar.member import Compression, Member
from buildkit.locks.pins import ModelFile
from buildkit.plan.model_layout import snapshot_links, snapshot_refs
from buildkit.plan.spec import PackFiles, PackFramework, PackLinks, PackModel, PackSbom

FindFile = Callable[[ModelFile], Path | None]


def members_of_files(work: PackFiles, project: Path) -> Iterator[Member]:
    """Return the copied files, which are read below the project's folder. Reading raises MismatchError."""
    root = project / work.tree.path
    is_file = root.is_file()
    files = [CopiedFile("." if is_file else f.path, f.executable, f.sha256, not f.link) for f in work.tree.files]
    return file_members(root, files, work.copy.target)


def members_of_links(work: PackLinks) -> Iterator[Member]:
    """Yield symbolic links."""
    for path, target in work.links:
        yield Member(path=path.strip("/"), kind="symlink", target=target)


def members_of_framework(work: PackFramework) -> Iterator[Member]:
    """Return the files of ``xoe_runtime``."""
    return framework_members(work.target, work.settings)


def members_of_model(work: PackModel, opened: OpenFile, find_file: FindFile) -> Iterator[Member]:
    """Return the files of a model's layer, with a hub's links and references if it has the layout of a hub's cache.

    ``find_file`` returns where a file is on disk, None for a member of a wheel. Reading raises MismatchError for other
    bytes than those of the lock.
    """
    members = model_members(replace(work.model, files=work.files), opened, work.target, work.place, find_file)
    if work.snapshot is None:
        return members
    added = snapshot_members(work.target, snapshot_links(work.snapshot), snapshot_refs(work.snapshot))
    return iter(sorted((*members, *added), key=lambda member: member.path))


def choose_compression(work: PackModel, opened: OpenFile, find_file: FindFile, wanted: Compression) -> Compression:
    """Return ``wanted``, or none if the model's largest file hardly shrinks.

    ``find_file`` returns where a file is on disk, None if it must be read as a stream.
    """
    if not work.files:
        return wanted
    largest = max(work.files, key=lambda file: file.size)
    with ExitStack() as stack:
        read_at = forward_reader(opened(largest))
        if path := find_file(largest):
            with suppress(FileNotFoundError):  # reading the stream says what is missing
                file = stack.enter_context(path.open("rb", buffering=0))
                read_at = partial(_read_at, file.fileno())
        return wanted if worth_compressing(read_at, largest.size) else Compression.NONE


def _read_at(file: int, offset: int, size: int) -> bytes:
    return os.pread(file, size, offset)


def member_of_sbom(work: PackSbom, deb_arch: str) -> Iterator[Member]:
    """Yield the SBOM; ``deb_arch`` is Debian's name of the processor."""
    from buildkit.supply.embedded import render_embedded  # a build that packs no SBOM does not load it

    data = render_embedded(work, deb_arch)
    yield Member(path=work.path.strip("/"), size=len(data), content=lambda: iter((data,)))
