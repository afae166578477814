"""Pull a root from a registry: the layers of an image as blobs, verified against their digests and diff_ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from buildkit.digest import DiffId, Digest, canonical_json
from buildkit.errors import BuildError, MismatchError, RegistryError
from buildkit.hostile_json import JsonValue, MalformedError
from buildkit.locks.pins import PinnedImage
from buildkit.oci.blob import Blob, LayerResult
from buildkit.oci.manifest import parse_config, parse_manifest
from buildkit.oci.run_config import read_run_config
from buildkit.store.blobs import Blobs
from buildkit.store.ingest import OpenFile, OpenTree, ingest_blob, open_whole, verify_digest
from buildkit.tasks.concurrent import run_concurrently
from buildkit.tools.arriving_files import ArrivingFiles

FetchImage = Callable[[str, Path, str, ArrivingFiles], None]
"""Fetches an image, pinned by digest, for a processor into a folder, as a ``dir:`` layout of verified blobs.

The last argument may be told what has come.
"""

ReadLayer = Callable[[Digest, Iterator[bytes]], object]
"""Reads the tar of a layer that is being pulled; it is not verified yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReaders:
    """What reads layers while they are pulled, lowest first: ``tree`` keeps their files, ``read`` gets their tars."""

    tree: OpenTree = nullcontext
    read: ReadLayer = lambda _digest, _tar: None


_NONE = LayerReaders()
_UPGRADE = "run: nox -s lock -- --upgrade-images"


def pull_image(
    image: PinnedImage, arch: str, fetch: FetchImage, blobs: Blobs, readers: LayerReaders = _NONE
) -> LayerResult:
    """Return the layers and the run config of an image for ``arch``, in Debian's terms.

    Layers are taken while they come, as far as that goes. Whatever goes wrong then is seen again in the complete files.
    Raises what ``fetch`` raises, MismatchError or BuildError if it is not such an image.
    """
    arriving = ArrivingFiles()

    def download() -> None:
        try:
            _fetch(image, partial(fetch, image.ref, folder, arch, arriving))
        except BaseException:
            arriving.withdraw()
            raise
        arriving.end()
        _flush(folder)  # while they are unpacked, so that the cache need not wait for the disk

    with blobs.working_folder() as folder:
        pull = _Pull(image, arch, folder, blobs, readers)
        with run_concurrently(download), suppress(Exception):
            pull.take(pull.describe(arriving.manifest, arriving.open), arriving.open)
        described = pull.describe((folder / "manifest.json").read_bytes)
        if absent := [digest.short for digest, _ in described.layers if not (folder / digest.hex).is_file()]:
            raise BuildError(f"{image.ref}: the registry gave no layer {absent[0]}")
        return LayerResult(blobs=pull.take(described), config=described.config)


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


class _Described(NamedTuple):
    layers: list[tuple[Digest, DiffId]]
    config: str


class _Pull:
    """An image of which a folder has the files, or gets them."""

    def __init__(self, image: PinnedImage, arch: str, folder: Path, blobs: Blobs, readers: LayerReaders) -> None:
        self._image = image
        self._arch = arch
        self._folder = folder
        self._blobs = blobs
        self._readers = readers
        self._taken: dict[tuple[Digest, DiffId], Blob] = {}

    def describe(self, manifest: Callable[[], bytes], open_file: OpenFile = open_whole) -> _Described:
        """Read manifest and config; raises MismatchError or BuildError."""
        ref = self._image.ref
        try:
            data = manifest()
            parsed = parse_manifest(data)
            with open_file(self._folder / parsed.config.hex) as file:
                packed = file.read()
            verify_digest(self._folder / parsed.config.hex, parsed.config)
            config, diff_ids = parse_config(packed)
            run_config, found = read_run_config(config.find("config")), _architecture(config)
        except (MalformedError, OSError) as error:
            reason = type(error).__name__ if isinstance(error, OSError) else str(error)
            raise BuildError(f"{ref}: not an image that can be read: {reason}") from error
        if self._image.manifests and Digest.of(data) not in self._image.manifests:
            what = f"{ref}: the lock names other images for {self._arch} than the registry has under this digest"
            raise MismatchError(what, hint=f"the lock was altered; {_UPGRADE}")
        if found != self._arch:
            what = f"{ref} is for {found}, not for {self._arch}"
            raise MismatchError(what, hint="pin the image of the right architecture")
        digests = [digest for digest, _ in parsed.layers]
        if len(digests) != len(diff_ids):
            raise BuildError(f"{ref}: {len(digests)} layers, but {len(diff_ids)} diff_ids")
        return _Described(list(zip(digests, diff_ids, strict=True)), canonical_json(run_config))

    def take(self, described: _Described, open_file: OpenFile | None = None) -> tuple[Blob, ...]:
        """Take the layers that have not been taken yet, lowest first; return all; raises as `ingest_blob` does."""
        for digest, diff_id in described.layers:
            if (digest, diff_id) not in self._taken:
                self._taken[digest, diff_id] = ingest_blob(
                    self._folder / digest.hex,
                    digest,
                    diff_id,
                    self._blobs,
                    open_tree=self._readers.tree,
                    read=partial(self._readers.read, digest),
                    open_file=open_file,
                )
        return tuple(self._taken[layer] for layer in described.layers)


def _fetch(image: PinnedImage, fetch: Callable[[], None]) -> None:
    try:
        fetch()
    except RegistryError as error:
        if error.absent and image.manifests:  # of the lock, not written in the stage file
            message = f"the registry no longer has {image.ref}, which requirements/images.lock names"
            raise RegistryError(message, hint=_UPGRADE, absent=True) from error
        raise


def _architecture(config: JsonValue) -> str:
    arch = config.find("architecture")
    return arch.text() if arch else "no known architecture"
