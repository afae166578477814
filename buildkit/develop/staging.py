"""What of an image is staged: the files of its `[[copy]]` tables, in folders that are mounted over those of the image.

Everything else of the image is its *base*: when that changes, the image must be built again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from buildkit.digest import canonical_json
from buildkit.plan.compose import Composition
from buildkit.plan.spec import PackFiles, Spec, TreeFile


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file of the project (``source``, relative to it) as the layer of a copy holds it."""

    source: str
    content: str
    executable: bool = False
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFolder:
    """A folder of the container (``target``), and the files that it shows by their paths below it."""

    target: str
    files: Mapping[str, StagedFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """The staged folders of an image, and its base as one text that is compared."""

    folders: tuple[StagedFolder, ...]
    base: str


def plan_staging(composition: Composition, is_occupied: Callable[[str], bool]) -> Staging:
    """Return which files of an image are staged, and where.

    A folder is staged only if no other layer has something in it (``is_occupied``), because a mount hides that.
    Single files are staged with the folder that they are in.
    """
    copies = {spec.key: _place(spec.work) for spec in composition.layers if isinstance(spec.work, PackFiles)}
    roots = _outermost({place.target for place in copies.values() if not place.is_file})
    free = [root for root in roots if root != "/" and not is_occupied(root)]
    files: dict[str, dict[str, StagedFile]] = {root: {} for root in free}
    base: list[Spec] = []
    for spec in composition.specs:
        place = copies.get(spec.key)
        root = next((root for root in free if place is not None and _is_in(place.target, root)), None)
        if place is None or root is None:
            base.append(spec)
        else:
            files[root] |= place.files_below(root)
    folders = tuple(StagedFolder(target=root, files=files[root]) for root in free)
    config = repr(composition.config)
    return Staging(folders=folders, base=canonical_json([config, free, [spec.key.hex for spec in base]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _CopyPlace:
    """The files of a copy: ``target`` is the path of a single file, or of the folder."""

    target: str
    path: str
    files: tuple[TreeFile, ...]

    @property
    def is_file(self) -> bool:
        return any(file.path == "." for file in self.files)

    def files_below(self, root: str) -> dict[str, StagedFile]:
        return {
            posixpath.relpath(posixpath.normpath(posixpath.join(self.target, file.path)), root): StagedFile(
                source=posixpath.normpath(posixpath.join(self.path, file.path)),
                content=file.sha256.hex,
                executable=file.executable,
                link=file.link,
            )
            for file in self.files
        }


def _place(work: PackFiles) -> _CopyPlace:
    target = posixpath.normpath(posixpath.join("/", work.copy.target))
    return _CopyPlace(target=target, path=work.tree.path, files=work.tree.files)


def _outermost(targets: set[str]) -> list[str]:
    return sorted(one for one in targets if not any(one != other and _is_in(one, other) for other in targets))


def _is_in(path: str, folder: str) -> bool:
    return folder == "/" or path == folder or path.startswith(f"{folder}/")
