"""Inspect what an image contains, to catch participants that are fast because they are wrong. Never measured."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.whiteout import find_removed_path
from buildkit.shell import load_script
from buildkit.tools.process import Command, run

_ENDINGS = {"gzip": Compression.GZIP, "zstd": Compression.ZSTD}
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")


def inspect_in_storage(env: Mapping[str, str], image: str, paths: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of those ``paths`` that an image in local storage has. Raises ToolError."""
    requested = tuple(paths)
    if not requested:
        return {}
    script = ("sh", "-c", load_script("hash_files"), "sh", image, *requested)
    argv = script if os.geteuid() == 0 else ("buildah", "unshare", *script)
    lines = run(Command(argv=argv, env=env, what=f"looking into {image}")).text.splitlines()
    return {name: digits for digits, _, name in (line.partition("  ") for line in lines) if name}


def inspect_in_registry(data: Path, repository: str, paths: Iterable[str]) -> dict[str, str]:
    """Return the same for the latest image of a registry whose storage folder is ``data``. Each layer is read once.

    As in a container, the topmost layer that has a path decides. Raises OSError if the image does not exist.
    """
    link = data / f"docker/registry/v2/repositories/{repository}/_manifests/tags/latest/current/link"
    manifest = _manifest(data, link.read_text("ascii").strip())
    hashes: dict[str, str] = {}
    hidden: set[str] = set()
    requested = set(paths)
    for layer in reversed(manifest["layers"]):
        files, removed, emptied = _read_layer(_blob(data, layer["digest"]), layer["mediaType"])
        for path in sorted(requested - hashes.keys() - hidden):
            if path in files:
                hashes[path] = files[path]
        hidden |= {path for path in requested - hashes.keys() if _covers(path, removed, emptied)}
    return hashes


def _covers(path: str, removed: frozenset[str], emptied: frozenset[str]) -> bool:
    above = [path[:end] for end, letter in enumerate(path) if letter == "/"]
    return path in removed or any(folder in removed or folder in emptied for folder in above)


def _manifest(data: Path, digest: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(_blob(data, digest).read_bytes())
    if manifest.get("mediaType") not in _INDEXES and "manifests" not in manifest:
        return manifest
    images = [entry for entry in manifest["manifests"] if entry.get("platform", {}).get("os") == "linux"]
    return _manifest(data, images[0]["digest"])


def _blob(data: Path, digest: str) -> Path:
    digits = digest.partition(":")[2]
    return data / f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"


@cache
def _read_layer(blob: Path, media_type: str) -> tuple[dict[str, str], frozenset[str], frozenset[str]]:
    """Return a layer's files by SHA-256, the paths it removes, and the folders it empties."""
    kind = _ENDINGS.get(media_type.rpartition(".")[2].rpartition("+")[2], Compression.NONE)
    files: dict[str, str] = {}
    removed, emptied = set(), set()
    with tarfile.open(fileobj=cast("IO[bytes]", _Stream(inflate(blob, kind))), mode="r|") as tar:
        for entry in tar:
            path = entry.name.removeprefix("./").strip("/")
            if (removed_path := find_removed_path(path)).endswith("/"):
                emptied.add(removed_path.removesuffix("/"))
            elif removed_path:
                removed.add(removed_path)
            elif entry.isfile() and (content := tar.extractfile(entry)) is not None:
                files[path] = hashlib.file_digest(cast("Any", content), "sha256").hexdigest()
    return files, frozenset(removed), frozenset(emptied)


class _Stream:
    """A forward-only file over pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
