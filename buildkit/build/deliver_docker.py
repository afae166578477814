"""Loads images into a Docker engine; only layers that it lacks are read.

The archive is that of ``docker save``. An engine looks for a layer in its archive only if it does not have it in its
place above those below, so the others are left out. Engines that keep images in containerd want all of them: if the
short archive is refused, they get the whole one.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, BinaryIO

from buildkit.build.deliver import removing_damaged
from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, ToolError
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image
from buildkit.store.layer_bytes import LayerBytes
from buildkit.tools import docker

_SETTINGS = (
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "StopSignal", "User", "Volumes", "WorkingDir",
)  # fmt: skip


def load_into_docker(image: Image, ref: str, layers: LayerBytes) -> int:
    """Make ``ref`` name the image in the Docker engine; return the bytes of layers that were loaded (uncompressed).

    Raises MissingTool, ToolError, BuildError, and what ``LayerBytes.open_tar`` raises.
    """
    if _is_same(docker.find_image(ref), image):
        return 0
    blobs = [layer.blob for layer in image.layers]
    known = max((_count_common(has, blobs) for has in docker.list_layers()), default=0)
    try:
        _load(image, ref, blobs[known:], layers)
    except ToolError:
        known = 0
        with removing_damaged(blobs, layers.blobs):
            _load(image, ref, blobs, layers)
    if not _is_same(docker.find_image(ref), image):
        raise BuildError(f"the Docker engine made another image of {ref}", hint=f"docker image inspect {ref}")
    return sum(blob.unpacked for blob in blobs[known:])


def _load(image: Image, ref: str, lacking: Sequence[Blob], layers: LayerBytes) -> None:
    def write(out: BinaryIO) -> None:
        tars = {blob.diff_id: layers.open_tar(blob) for blob in lacking}
        try:
            write_archive(out, image, ref, tars)
        except BrokenPipeError:
            return  # docker ended before it read everything; its exit code and message say why
        except (ValueError, FileNotFoundError) as error:
            raise ToolError(f"{ref}: a layer cannot be read: {error}") from error

    docker.load_image(ref, write)


def write_archive(out: BinaryIO, image: Image, ref: str, tars: dict[DiffId, Iterator[bytes]]) -> None:
    """Write an archive as ``docker save`` makes them, with those layers that ``tars`` has."""
    config = image.config_blob()
    name = f"{Digest.of(config).hex}.json"
    files = [f"{layer.blob.diff_id.hex}.tar" for layer in image.layers]
    manifest = json.dumps([{"Config": name, "RepoTags": [ref], "Layers": files}]).encode()
    _add(out, "manifest.json", len(manifest), [manifest])
    _add(out, name, len(config), [config])
    sizes = {layer.blob.diff_id: layer.blob.unpacked for layer in image.layers}
    for diff_id, chunks in tars.items():
        _add(out, f"{diff_id.hex}.tar", sizes[diff_id], chunks)
    out.write(bytes(2 * tarfile.BLOCKSIZE))


def _add(out: BinaryIO, name: str, size: int, chunks: Iterable[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    out.write(member.tobuf(tarfile.GNU_FORMAT))
    out.writelines(chunks)
    out.write(bytes(-size % tarfile.BLOCKSIZE))


def _is_same(found: dict[str, Any] | None, image: Image) -> bool:
    """Return whether the engine's image has these layers and this config, whatever it calls it by."""
    if found is None:
        return False
    wanted = json.loads(image.config_blob())
    theirs, ours = found["Config"] or {}, wanted["config"]
    same = all(_without_zeros(theirs.get(name)) == _without_zeros(ours.get(name)) for name in _SETTINGS)
    return same and found["RootFS"]["Layers"] == wanted["rootfs"]["diff_ids"]


def _without_zeros(value: object) -> object:
    """Return a setting without what engines omit: empty ones, and numbers of a health check that are 0."""
    return {name: item for name, item in value.items() if item != 0} if isinstance(value, dict) else value or {}


def _count_common(has: Sequence[DiffId], wanted: Sequence[Blob]) -> int:
    pairs = zip(has, wanted, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1].diff_id, pairs))
