"""A root from a registry: an image's layers as blobs, every byte verified against its digest and diff_id."""

from __future__ import annotations

import json
from typing import Any

from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, MismatchError
from buildkit.oci.blob import LayerResult
from buildkit.store.blobs import Blobs
from buildkit.store.ingest import take_blob, verify
from buildkit.tools import skopeo


def pull_image(ref: str, arch: str, blobs: Blobs) -> LayerResult:
    """Layers and environment of ``NAME@sha256:...`` for ``arch`` (Debian's word).

    Raises ToolError where the registry does not give it, MismatchError or BuildError for what is not an image.
    """
    with blobs.working_folder() as folder:
        skopeo.copy_registry_to_dir(ref, folder, arch=arch)
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
            config_digest = Digest.parse(manifest["config"]["digest"])
            verify(folder / config_digest.hex, config_digest)
            config = json.loads((folder / config_digest.hex).read_bytes())
            diff_ids = [DiffId.parse(text) for text in config["rootfs"]["diff_ids"]]
            digests = [Digest.parse(layer["digest"]) for layer in manifest["layers"]]
            env = _env(config)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
            raise BuildError(f"{ref}: not an image that can be read: {type(error).__name__}") from error
        if config.get("architecture") != arch:
            found = config.get("architecture")
            raise MismatchError(f"{ref} is for {found}, not for {arch}", hint="pin the image of the right architecture")
        if len(digests) != len(diff_ids):
            raise BuildError(f"{ref}: {len(digests)} layers, but {len(diff_ids)} diff_ids")
        if absent := [digest.short for digest in digests if not (folder / digest.hex).is_file()]:
            raise BuildError(f"{ref}: the registry gave no layer {absent[0]}")
        pairs = zip(digests, diff_ids, strict=True)
        taken = (take_blob(folder / digest.hex, digest, diff_id, blobs) for digest, diff_id in pairs)
        return LayerResult(blobs=tuple(taken), env=env)


def _env(config: dict[str, Any]) -> tuple[str, ...]:
    lines = tuple(str(line) for line in (config.get("config") or {}).get("Env") or ())
    if any("\0" in line or line != line.encode("utf-8", "replace").decode() for line in lines):
        raise ValueError("a variable that no process can have, or no config can hold")
    return lines
