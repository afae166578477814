"""Resolve paths of an image, with symbolic links, as the kernel does inside the image's root."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_LINKS = 40  # the kernel's limit (path_resolution(7))


class ImageTree:
    """The files and symbolic links of an image, and the folders above them. Paths have no leading slash."""

    def __init__(self, files: Collection[str], links: Mapping[str, str]) -> None:
        self._files = files
        self._links = links
        self._folders: dict[str, str | None] = {"": ""}

    def find(self, path: str) -> str | None:
        """Return the real path of a file; None if the file is not known."""
        folder, _, name = path.strip("/").rpartition("/")
        for _ in range(_LINKS):
            real = self.folder(folder)
            if real is None:
                return None
            at = f"{real}/{name}" if real else name
            if at not in self._links:
                return at if at in self._files else None
            folder, _, name = _join(real, self._links[at]).rpartition("/")
        return None

    def folder(self, path: str) -> str | None:
        """Return the real path of a folder, which need not exist; None for circular links."""
        path = path.strip("/")
        if path not in self._folders:
            self._folders[path] = self._walk(path)
        return self._folders[path]

    def _walk(self, path: str) -> str | None:
        left, real = [part for part in reversed(path.split("/")) if part], ""
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                real = real.rpartition("/")[0]
            elif part != ".":
                at = f"{real}/{part}" if real else part
                target = self._links.get(at)
                if target is None:
                    real = at
                    continue
                links += 1
                if links > _LINKS:
                    return None
                real = "" if target.startswith("/") else real
                left += [piece for piece in reversed(target.split("/")) if piece]
        return real


def _join(folder: str, target: str) -> str:
    return target.strip("/") if target.startswith("/") else f"{folder}/{target}".strip("/")
