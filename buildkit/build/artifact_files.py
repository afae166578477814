"""Files of models that are in a registry, as blobs of an artifact or as members of its tars, brought into the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from buildkit.build.context import BuildContext
from buildkit.digest import Digest, FileHash
from buildkit.errors import MismatchError
from buildkit.layers.model_tar import read_tar_files
from buildkit.locks.model_source import ArtifactPlace, parse_artifact_place
from buildkit.locks.pins import Model, ModelFile
from buildkit.oci.reference import parse_ref

Progress = Callable[[int], None]


def fetch_artifact_file(context: BuildContext, model: Model, file: ModelFile, progress: Progress) -> None:
    """Bring a file of an `OciSource` into the cache, and all others of the model that are in the same tar.

    Raises RegistryError, and MismatchError for other bytes than the lock names.
    """
    place = parse_artifact_place(file.source)
    what = f"{model.name}: {file.path}"
    with context.blobs.writing() as out:
        ref = parse_ref(place.ref, f"model {model.name}")
        blob = Digest(place.blob.hex), place.size
        context.files.registries.fetch_blob(ref, blob, out, progress)
        out.flush()
        if not place.member:
            if place.blob != file.sha256:
                raise MismatchError(f"{what}: the lock says {file.sha256}, and a blob of {place.blob}")
            path = _cache_path(context, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            context.blobs.keep(out, path)
            return
        kept = _unpack(context, model, place, Path(out.name))
    if file.sha256 not in kept:
        raise MismatchError(f"{what}: {place.ref} has no such bytes at {place.member}: the lock says {file.sha256}")


def _unpack(context: BuildContext, model: Model, place: ArtifactPlace, tar: Path) -> set[FileHash]:
    """Keep the files of a model that a tar has; return the hashes of those that are now in the cache."""
    wanted = {parse_artifact_place(file.source).member: file for file in model.files if _is_in(file, place)}
    kept: set[FileHash] = set()
    for name, kind, content in read_tar_files(tar, place.ref):
        file = wanted.get(name)
        if file is None or kind != "file" or file.sha256 in kept:
            continue
        if _keep(context, file, content):
            kept.add(file.sha256)
    return kept


def _keep(context: BuildContext, file: ModelFile, content: Iterator[bytes]) -> bool:
    """Write a file into the cache if its bytes are those of the lock."""
    digest, size = hashlib.sha256(), 0
    with context.blobs.writing() as out:
        for chunk in content:
            digest.update(chunk)
            size += len(chunk)
            if size > file.size:
                return False
            out.write(chunk)
        if digest.hexdigest() != file.sha256.hex:
            return False
        path = _cache_path(context, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        context.blobs.keep(out, path)
    context.ledger.downloads.add(file.sha256, path.name, os.path.getsize(path), 0.0)  # noqa: PTH202 - just written
    return True


def _is_in(file: ModelFile, place: ArtifactPlace) -> bool:
    other = parse_artifact_place(file.source)
    return other.blob == place.blob and bool(other.member)


def _cache_path(context: BuildContext, file: ModelFile) -> Path:
    return context.blobs.file_path(file.sha256, Path(file.path).name)
