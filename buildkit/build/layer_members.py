"""The members of layers that are packed from values and files alone: files, links, models and SBOMs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from buildkit.layers.files import CopiedFile, file_members
from buildkit.layers.framework import framework_members
from buildkit.layers.models import OpenFile, forward_reader, model_members, snapshot_members, worth_compressing
from buildkit.layers.tar.member import Compression, Member
from buildkit.plan.model_layout import snapshot_links, snapshot_refs
from buildkit.plan.spec import PackFiles, PackFramework, PackLinks, PackModel, PackSbom


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


def members_of_model(work: PackModel, opened: OpenFile) -> Iterator[Member]:
    """Return the files of a model's layer, with a hub's links and references if it has the layout of a hub's cache.

    Reading raises MismatchError for other bytes than those of the lock.
    """
    members = model_members(replace(work.model, files=work.files), opened, work.target, work.place)
    if work.snapshot is None:
        return members
    added = snapshot_members(work.target, snapshot_links(work.snapshot), snapshot_refs(work.snapshot))
    return iter(sorted((*members, *added), key=lambda member: member.path))


def choose_compression(work: PackModel, opened: OpenFile, wanted: Compression) -> Compression:
    """Return ``wanted``, or none if the model's largest file hardly shrinks."""
    if not work.files:
        return wanted
    largest = max(work.files, key=lambda file: file.size)
    pays = worth_compressing(forward_reader(opened(largest)), largest.size)
    return wanted if pays else Compression.NONE


def member_of_sbom(work: PackSbom, deb_arch: str) -> Iterator[Member]:
    """Yield the SBOM; ``deb_arch`` is Debian's name of the processor."""
    from buildkit.supply.embedded import render_embedded  # a build that packs no SBOM does not load it

    data = render_embedded(work, deb_arch)
    yield Member(path=work.path.strip("/"), size=len(data), content=lambda: iter((data,)))
