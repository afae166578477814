"""Pull a root from a registry: the layers of an image as blobs, verified against their digests and diff_ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildkit.digest import Digest, canonical_json
from buildkit.errors import BuildError, MismatchError, RegistryError
from buildkit.hostile_json import JsonValue, MalformedError
from buildkit.locks.pins import PinnedImage
from buildkit.oci.blob import LayerResult
from buildkit.oci.manifest import parse_config, parse_manifest
from buildkit.oci.run_config import read_run_config
from buildkit.store.blobs import Blobs
from buildkit.store.ingest import OpenTree, ingest_blob, verify_digest

FetchImage = Callable[[str, Path, str], None]
"""Fetches an image, pinned by digest, for a processor into a folder, as a ``dir:`` layout of verified blobs."""

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

    Raises what ``fetch`` raises, MismatchError or BuildError if it is not such an image.
    """
    ref = image.ref
    with blobs.working_folder() as folder:
        _fetch(image, arch, fetch, folder)
        try:
            data = (folder / "manifest.json").read_bytes()
            manifest = parse_manifest(data)
            verify_digest(folder / manifest.config.hex, manifest.config)
            config, diff_ids = parse_config((folder / manifest.config.hex).read_bytes())
            run_config, found = read_run_config(config.find("config")), _architecture(config)
        except (MalformedError, OSError) as error:
            reason = type(error).__name__ if isinstance(error, OSError) else str(error)
            raise BuildError(f"{ref}: not an image that can be read: {reason}") from error
        if image.manifests and Digest.of(data) not in image.manifests:
            what = f"{ref}: the lock names other images for {arch} than the registry has under this digest"
            raise MismatchError(what, hint=f"the lock was altered; {_UPGRADE}")
        if found != arch:
            raise MismatchError(f"{ref} is for {found}, not for {arch}", hint="pin the image of the right architecture")
        digests = [digest for digest, _ in manifest.layers]
        if len(digests) != len(diff_ids):
            raise BuildError(f"{ref}: {len(digests)} layers, but {len(diff_ids)} diff_ids")
        if absent := [digest.short for digest in digests if not (folder / digest.hex).is_file()]:
            raise BuildError(f"{ref}: the registry gave no layer {absent[0]}")
        pairs = zip(digests, diff_ids, strict=True)
        taken = (
            ingest_blob(
                folder / digest.hex, digest, diff_id, blobs, open_tree=readers.tree, read=partial(readers.read, digest)
            )
            for digest, diff_id in pairs
        )
        return LayerResult(blobs=tuple(taken), config=canonical_json(run_config))


def _fetch(image: PinnedImage, arch: str, fetch: FetchImage, folder: Path) -> None:
    try:
        fetch(image.ref, folder, arch)
    except RegistryError as error:
        if error.absent and image.manifests:  # of the lock, not written in the stage file
            message = f"the registry no longer has {image.ref}, which requirements/images.lock names"
            raise RegistryError(message, hint=_UPGRADE, absent=True) from error
        raise


def _architecture(config: JsonValue) -> str:
    arch = config.find("architecture")
    return arch.text() if arch else "no known architecture"
