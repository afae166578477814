"""A root from a registry: an image's layers as blobs, every byte verified against its digest and diff_id."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

from buildkit.cache.blobs import Blobs
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, MismatchError
from buildkit.layers.inflate import inflate
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
        for chunk in inflate(path, compression):
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


def _env(config: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(line) for line in (config.get("config") or {}).get("Env") or ())
