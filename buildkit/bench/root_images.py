"""The image every participant starts from: made or fetched once, pushed to the race's registry, and varied.

Whatever a project's root is, the race uses an image in its own registry. A variant is the same image with its lowest
layer rebuilt with one changed file, as a security update would."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buildkit.declare.stage import Config
from buildkit.declare.target import SYSTEM_PATH
from buildkit.digest import DiffId, Digest
from buildkit.layers.tar.blob_stream import BlobStream
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.header import FILE, padding, render_header
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import EPOCH, Image, Layer
from buildkit.oci.reference import parse_ref
from buildkit.tools.process import Command, run
from buildkit.tools.registry import RegistryClient
from buildkit.tools.skopeo import skopeo_argv, write_layout

RELEASE = "etc/bench-release"
_ENDINGS = {"gzip": Compression.GZIP, "zstd": Compression.ZSTD}


def fetch_root(ref: str, folder: Path, arch: str) -> None:
    """Fetch a registry image as a ``dir:`` layout into ``folder``, unless it exists."""
    if not (folder / "manifest.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        RegistryClient(threading.Event()).fetch(parse_ref(ref, "the root"), folder, arch=arch)


def keep_root(layers: list[dict[str, Any]], cache: Path, folder: Path, arch: str) -> None:
    """Write the layers of a build report, whose gzip blobs are in ``cache``, as such a layout."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    blobs = [
        Blob(
            digest=Digest.parse(layer["digest"]),
            diff_id=DiffId.parse(layer["diff_id"]),
            size=layer["size"],
            unpacked=0,
            compression=Compression.GZIP,
        )
        for layer in layers
    ]
    config = Config(env=(("PATH", SYSTEM_PATH),))
    image = Image(layers=tuple(Layer(blob=blob, history="root") for blob in blobs), config=config, arch=arch)
    for blob in blobs:
        shutil.copyfile(cache / "sha256" / blob.digest.hex, folder / blob.digest.hex)
    write_layout(folder, image.oci_manifest(), image.config_blob())


def push_root(folder: Path, work: Path, ref: str, number: int) -> str:
    """Push variant ``number`` of the layout in ``folder`` as ``ref`` (with a tag); return its name pinned by digest.

    ``work`` is a folder for temporary files. Raises ToolError.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    for layer in manifest["layers"][1:]:
        shutil.copyfile(folder / _digits(layer["digest"]), work / _digits(layer["digest"]))
    lowest = manifest["layers"][0]
    with (work / "layer").open("wb") as out, BlobStream(out, Compression.GZIP, lambda _done: None) as stream:
        for piece in _vary(folder / _digits(lowest["digest"]), lowest["mediaType"], number):
            stream.write(piece)
        packed = stream.finish()
    (work / "layer").rename(work / packed.digest.hex)
    config: dict[str, Any] = json.loads((folder / _digits(manifest["config"]["digest"])).read_bytes())
    config["rootfs"]["diff_ids"][0] = str(packed.diff_id)
    history = config.get("history") or [{"created_by": "root"}] * len(manifest["layers"])
    config["history"] = [
        {"created": EPOCH, **entry} for entry in history
    ]  # without times buildah never finds a cached layer
    encoded = json.dumps(config).encode()
    oci = "oci" in manifest.get("mediaType", "oci")
    lowest |= {"digest": str(packed.digest), "size": packed.size, "mediaType": _gzip_type(oci=oci)}
    manifest["config"] |= {"digest": str(Digest.of(encoded)), "size": len(encoded)}
    whole = json.dumps(manifest).encode()
    write_layout(work, whole, encoded)
    argv = (*skopeo_argv(temporary=work), "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false")
    run(Command(argv=(*argv, f"dir:{work}", f"docker://{ref}"), what=f"pushing the root {ref}"))
    shutil.rmtree(work)
    return f"{ref.rpartition(':')[0]}@{Digest.of(whole)}"


def release(number: int) -> bytes:
    """Return the content of `RELEASE` in a variant."""
    return f"bench root {number}\n".encode()


def _vary(blob: Path, media_type: str, number: int) -> Iterator[bytes]:
    """Yield the tar with one file first. Extraction creates its folder, whose own entry comes later."""
    text = release(number)
    yield render_header(RELEASE, FILE, size=len(text)) + text + padding(len(text))
    yield from inflate(blob, _ENDINGS.get(media_type.rpartition(".")[2].rpartition("+")[2], Compression.NONE))


def _gzip_type(*, oci: bool) -> str:
    kind = "oci.image.layer.v1.tar+gzip" if oci else "docker.image.rootfs.diff.tar.gzip"
    return f"application/vnd.{kind}"


def _digits(digest: str) -> str:
    return digest.partition(":")[2]
