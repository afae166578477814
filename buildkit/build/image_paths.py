"""Looks up single paths of an image in the listings of its layers; only layers that may have a path are read."""

from __future__ import annotations

import posixpath
from functools import cache
from itertools import chain
from pathlib import Path

from buildkit.build.context import BuildContext
from buildkit.declare.paths import is_outside
from buildkit.digest import Key
from buildkit.layers.root.paths import RootPaths, follow_links
from buildkit.layers.tar.contents import FOLDER, LINK
from buildkit.layers.tar.member_path import parents_of
from buildkit.layers.tar.reader import TarReader
from buildkit.plan.spec import PackFiles, Spec
from buildkit.store.layer_listings import find_listing


class UnknownListingError(Exception):
    """What a layer holds is not known on this host: only a remote cache has it."""


class ImagePaths:
    """The paths of ``specs``, the layers of an image from the lowest up; methods raise UnknownListingError."""

    def __init__(self, context: BuildContext, specs: tuple[Spec, ...]) -> None:
        self._context = context
        self._specs = specs
        self._above = [spec for spec in specs if not spec.is_of_root]
        self._prefixes = context.ledger.layers.path_prefixes(spec.key for spec in self._above)
        self._contents = cache(self._read)
        self._root = cache(lambda: RootPaths(sorted_pairs(self._read(s)) for s in specs if s.is_of_root))

    def find(self, path: str) -> str | None:
        """Return what lies at an absolute path once its links are followed, as in a listing; None for nothing.

        A folder is known by what it holds, if that is in the root.
        """
        place = follow_links(path, lambda name: self._at(name) or FOLDER)
        return self._at(place) if place else None

    def names(self, folder: str) -> set[str]:
        """Return the names in a folder; every listing is read."""
        place = follow_links(folder, lambda name: self._at(name) or FOLDER)
        paths = (path for spec in self._specs for path in self._contents(spec))
        inside = (path.removeprefix(f"{place}/") for path in paths if path.startswith(f"{place}/"))
        return {name for name in inside if "/" not in name}

    def find_copied(self, path: str) -> Path | None:
        """Return the file of the checkout that lies at an absolute path, its links followed; None if none is copied."""
        place = follow_links(path, lambda name: self._at(name) or FOLDER)
        for spec in reversed(self._above):
            if self._may_have(spec.key, place) and place in self._contents(spec):
                if not isinstance(spec.work, PackFiles):
                    return None
                inside = posixpath.relpath(f"/{place}", spec.work.copy.target)
                return None if is_outside(inside) else self._context.project.folder / spec.work.tree.path / inside
        return None

    def read_text(self, path: str) -> str | None:
        """Return a text file, from the uppermost layer that has it; None if its bytes are not on this host."""
        for spec in reversed(self._specs):
            content = self._contents(spec).get(path)
            if content is not None and not content.startswith(LINK):
                return self._read_member(spec, path)
        return None

    def _read_member(self, spec: Spec, path: str) -> str | None:
        layers = self._context.layers
        for blob in reversed(self._context.state.results[spec.key].blobs):
            if not layers.has(blob):
                return None
            reader = TarReader(layers.open_tar(blob), f"the layer {spec.name}")
            for member in reader:
                if member.path == path.encode():
                    return b"".join(reader.content()).decode("utf-8", "replace")
        return None

    def _at(self, path: str) -> str | None:
        for spec in reversed(self._above):
            if self._may_have(spec.key, path) and (content := self._contents(spec).get(path)) is not None:
                return content
        return self._root().find(path)

    def _may_have(self, key: Key, path: str) -> bool:
        prefixes = self._prefixes.get(key)
        return prefixes is None or not set(prefixes).isdisjoint(chain((path,), parents_of(path)))

    def _read(self, spec: Spec) -> dict[str, str]:
        if not self._context.ledger.layers.find([spec.key]):
            raise UnknownListingError
        listing = find_listing(spec.key, self._context.ledger, self._context.layers, of_root=spec.is_of_root)
        if listing is None:
            raise UnknownListingError
        return dict(listing)


def sorted_pairs(contents: dict[str, str]) -> list[tuple[str, str]]:
    """Return contents as a listing."""
    return sorted(contents.items())
