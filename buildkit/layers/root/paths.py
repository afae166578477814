"""What lies at the paths of a root, and what a path that is packed above it would replace.

The layers of a root are merged as the OCI image specification says ("Applying Changesets"): whiteouts remove what the
layers below have; a file or a link replaces whatever is there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import replace

from buildkit.layers.tar.contents import EXECUTABLE, FOLDER, LINK, SPECIAL, Listing
from buildkit.layers.tar.listing import root_listing
from buildkit.layers.tar.member_path import parents_of
from buildkit.layers.tar.whiteout import find_removed_path
from buildkit.lazy_dataclass import dataclass

_MOST_LINKS = 40  # of a path, as in Linux


@dataclass(frozen=True, slots=True, kw_only=True)
class RootClash:
    """What a packed path would replace: ``path`` of the root is ``what``.

    ``instead`` is the path to pack to where a link of the root leads, empty if there is none. ``is_content`` means that
    the root has a file there, too, with other bytes or another mode.
    """

    path: str
    what: str
    instead: str = ""
    is_content: bool = False


class RootPaths:
    """The merged paths of a root, from the listings of its layers, lowest first."""

    def __init__(self, listings: Iterable[Listing]) -> None:
        self._contents: dict[str, str] = {}
        for listing in listings:
            self._remove(filter(None, (find_removed_path(path) for path, _ in listing)))
            for path, content in listing:
                if not find_removed_path(path):
                    self._add(path, content)

    def find_clash(self, path: str, content: str) -> RootClash | None:
        """Return what packing ``content`` at ``path`` would replace; None for nothing, and for the same content."""
        for folder in parents_of(path):
            present = self._contents.get(folder, FOLDER)
            if present != FOLDER:
                return self._clash(folder, present, path)
        present = self._contents.get(path, content)
        if present == content:
            return None
        return replace(self._clash(path, present, path), is_content=_is_file(present) and _is_file(content))

    def find(self, path: str) -> str | None:
        """Return what lies at a path, links not followed; None for nothing."""
        return self._contents.get(path)

    def listing(self) -> Listing:
        """Return the listing of the merged root."""
        folders = {path for path, content in self._contents.items() if content == FOLDER}
        return list(root_listing({p: c for p, c in self._contents.items() if c != FOLDER}, folders))

    def _content_of(self, path: str) -> str:
        return self._contents.get(path, FOLDER)

    def _add(self, path: str, content: str) -> None:
        if content == FOLDER and self._contents.get(path, FOLDER) == FOLDER:
            self._contents[path] = FOLDER
        else:
            if self._contents.get(path) == FOLDER:
                self._remove([path])
            self._contents[path] = content
        for folder in parents_of(path):
            self._contents.setdefault(folder, FOLDER)

    def _clash(self, place: str, present: str, path: str) -> RootClash:
        instead = follow_links(path, self._content_of) if present.startswith(LINK) else ""
        return RootClash(path=place, what=_describe(present), instead=instead)

    def _remove(self, removed: Iterable[str]) -> None:
        """Remove paths with what is below them; a path that ends in a slash is only emptied."""
        names = set(removed)
        if not names:
            return
        gone = {name for name in names if not name.endswith("/")}
        emptied = {name.rstrip("/") for name in names if name.endswith("/")} | gone
        everything = "" in emptied
        self._contents = {
            path: content
            for path, content in self._contents.items()
            if not (everything or path in gone or any(parent in emptied for parent in parents_of(path)))
        }


def follow_links(path: str, content_of: Callable[[str], str]) -> str:
    """Return where ``path`` leads by links; the empty string if that is out of the image, or in circles.

    ``content_of`` returns what lies at a path, `FOLDER` for whatever is unknown.
    """
    done: list[str] = []
    parts = path.split("/")[::-1]
    links = 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = content_of("/".join((*done, part)))
        if not here.startswith(LINK):
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            return ""
        target = here.removeprefix(LINK)
        if posixpath.isabs(target):
            done = []
        parts += target.split("/")[::-1]
    return "/".join(done)


def _is_file(content: str) -> bool:
    return content not in (FOLDER, SPECIAL) and not content.startswith(LINK)


def _describe(content: str) -> str:
    if content.startswith(LINK):
        return f"a link to {content.removeprefix(LINK)}"
    if content == FOLDER:
        return "a folder"
    if content == SPECIAL:
        return "a device or a pipe"
    return "an executable file" if content.endswith(EXECUTABLE) else "a file"
