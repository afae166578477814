"""A root from a registry: an image's layers as blobs, every byte verified against its digest and diff_id."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from buildkit.cache.blobs import Blobs
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, MismatchError
from buildkit.layers.member import Compression
from buildkit.oci.blob import Blob, Made
from buildkit.tools import skopeo

_CHUNK = 1 << 20
_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5": Compression.ZSTD}


def pull_image(ref: str, arch: str, blobs: Blobs) -> Made:
    """Layers and environment of ``NAME@sha256:...`` for ``arch`` (Debian's word).

    Raises ToolError where the registry does not give it, MismatchError or BuildError for what is not an image.
    """
    with blobs.working_folder() as folder:
        skopeo.copy_registry_to_dir(ref, folder, arch=arch)
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
            config_digest = Digest.parse(manifest["config"]["digest"])
            config = json.loads(_verified(folder, config_digest).read_bytes())
            diff_ids = [DiffId.parse(text) for text in config["rootfs"]["diff_ids"]]
            digests = [Digest.parse(layer["digest"]) for layer in manifest["layers"]]
            env = _env(config)
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            raise BuildError(f"{ref}: not an image that can be read: {error!r}") from error
        if config.get("architecture") != arch:
            found = config.get("architecture")
            raise MismatchError(f"{ref} is for {found}, not for {arch}", hint="pin the image of the right architecture")
        if len(digests) != len(diff_ids):
            raise BuildError(f"{ref}: {len(digests)} layers, but {len(diff_ids)} diff_ids")
        pairs = zip(digests, diff_ids, strict=True)
        return Made(blobs=tuple(_take(folder, digest, diff_id, blobs) for digest, diff_id in pairs), env=env)


def _take(folder: Path, digest: Digest, diff_id: DiffId, blobs: Blobs) -> Blob:
    path = _verified(folder, digest)
    with path.open("rb") as file:
        compression = _MAGIC.get(file.read(2), Compression.NONE)
    found, unpacked = hashlib.sha256(), 0
    try:
        for chunk in _inflated(path, compression):
            found.update(chunk)
            unpacked += len(chunk)
    except (zlib.error, ValueError) as error:
        raise MismatchError(f"layer {digest.short} cannot be unpacked: {error}") from error
    if found.hexdigest() != diff_id.hex:
        raise MismatchError(f"layer {digest.short} unpacks to other bytes than its image says")
    size = path.stat().st_size
    with blobs.writing() as out, path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            out.write(chunk)
        blobs.keep(out, blobs.path(digest))
    return Blob(digest=digest, diff_id=diff_id, size=size, unpacked=unpacked, compression=compression)


def _verified(folder: Path, digest: Digest) -> Path:
    path = folder / digest.hex
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest.hex:
        raise MismatchError(f"the registry gave other bytes than {digest.short}")
    return path


def _inflated(path: Path, compression: Compression) -> Iterator[bytes]:
    """The tar in pieces of about a mebibyte, however well it is compressed; zlib.error or ValueError for no such."""
    with path.open("rb") as file:
        if compression is Compression.ZSTD:
            yield from _unzstd(file)
            return
        inflate = _Gzip() if compression is Compression.GZIP else None
        while chunk := file.read(_CHUNK):
            yield from inflate(chunk) if inflate else (chunk,)


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    try:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)  # zstd:chunked has many
        while chunk := reader.read(_CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


class _Gzip:
    """Inflates a gzip file of any number of members."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            yield self._member.decompress(chunk, _CHUNK)
            chunk = self._member.unconsumed_tail or self._member.unused_data
            if self._member.eof:
                self._member = zlib.decompressobj(31)


def _env(config: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(line) for line in (config.get("config") or {}).get("Env") or ())
