"""Lock models of registries: ModelPack artifacts, Docker's models, and images whose files are a model."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.build.model_folder import check_model_path, is_bookkeeping
from buildkit.digest import Digest, FileHash
from buildkit.errors import DefinitionError
from buildkit.hostile_json import MalformedError
from buildkit.layers.model_tar import read_tar_files
from buildkit.layers.tar.whiteout import find_removed_path
from buildkit.locks.model_source import ArtifactPlace, OciSource
from buildkit.locks.pins import ModelFile
from buildkit.oci.model_artifact import ModelPart, PartForm, UnknownPartError, parse_model_manifest
from buildkit.oci.reference import Ref, parse_ref
from buildkit.tools.distribution.image_fetch import find_image
from buildkit.tools.registry import RegistryClient

_MODELS = "models/"
Choose = Callable[[list[str]], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A member of a layer: of other kinds than a file it cannot be taken."""

    kind: str
    file: ModelFile


class ArtifactReader:
    """Reads what a source names; ``arch`` chooses of an index. Raises RegistryError and DefinitionError."""

    def __init__(
        self, source: OciSource, registries: RegistryClient, arch: str, progress: Callable[[int], None]
    ) -> None:
        self._source = source
        self._registries = registries
        self._arch = arch
        self._progress = progress

    def read(self, choose: Choose | None) -> tuple[Digest, tuple[ModelFile, ...]]:
        """Return the digest of the manifest, and the files that are chosen: all without a choice.

        Layers that are tars are fetched and read; files that are layers are not.
        """
        ref, parts = self._manifest()
        found: dict[str, FoundFile] = {}
        for part in parts:
            if part.form is PartForm.RAW:
                place = ArtifactPlace(ref=str(ref), blob=FileHash(part.digest.hex), size=part.size)
                file = ModelFile(path=part.path, sha256=place.blob, size=part.size, source=str(place))
                found[part.path] = FoundFile(kind="file", file=file)
            else:
                self._read_tar(ref, part, found)
        found = self._below_models(found, parts, choose)
        kept = sorted(path for path in found if not is_bookkeeping(path))
        chosen = choose(kept) if choose else kept
        if not chosen:
            raise DefinitionError(f"{self._source} holds no file")
        assert ref.digest is not None  # noqa: S101 - `_manifest` gives it one
        return ref.digest, tuple(self._taken(path, found[path]) for path in chosen)

    def _manifest(self) -> tuple[Ref, tuple[ModelPart, ...]]:
        ref = parse_ref(self._source.ref, "source")
        manifest = self._get(ref)
        try:
            if (chosen := find_image(manifest, self._arch)) is not None:
                ref = replace(ref, digest=chosen)
                manifest = self._get(ref)
            ref = Ref(ref.host, ref.path, digest=Digest.of(manifest))
            return ref, parse_model_manifest(manifest)
        except UnknownPartError as error:
            hint = "ModelPack artifacts, Docker's models and images can be read"
            raise DefinitionError(f"{self._source}: {error}", hint=hint) from None
        except MalformedError as error:
            raise DefinitionError(f"{self._source}: not a model that can be read: {error}") from None

    def _get(self, ref: Ref) -> bytes:
        manifest = self._registries.manifest(ref)
        if not manifest:
            raise DefinitionError(
                f"{ref.host} has no {ref}" if manifest is None else f"{ref}: its manifest is too large"
            )
        return manifest

    def _read_tar(self, ref: Ref, part: ModelPart, found: dict[str, FoundFile]) -> None:
        """Add the files of a tar; one of an image's layers may also remove those of layers below."""
        added: dict[str, FoundFile] = {}
        with tempfile.NamedTemporaryFile(prefix="buildkit-lock-") as out:
            self._registries.fetch_blob(ref, (part.digest, part.size), out, self._progress)  # type: ignore[arg-type]
            out.flush()
            for path, kind, content in read_tar_files(Path(out.name), f"{ref}"):
                if part.form is PartForm.LAYER and (removed := find_removed_path(path)):
                    _remove(removed, found)
                    continue
                sha256, size = _hash(content)
                place = ArtifactPlace(ref=str(ref), blob=FileHash(part.digest.hex), size=part.size, member=path)
                file = ModelFile(path=path, sha256=sha256, size=size, source=str(place))
                added[path] = FoundFile(kind=kind, file=file)
        found |= added

    def _below_models(
        self, found: dict[str, FoundFile], parts: tuple[ModelPart, ...], choose: Choose | None
    ) -> dict[str, FoundFile]:
        """Return the files of an image below its folder of models, if it has one; of others, or of an artifact, all."""
        if not any(part.form is PartForm.LAYER for part in parts):
            return found
        below = {path.removeprefix(_MODELS): one for path, one in found.items() if path.startswith(_MODELS)}
        if not below and choose is None:
            raise DefinitionError(f"{self._source} is an image without /models", hint="say which files it is: `files`")
        return {path: replace(one, file=replace(one.file, path=path)) for path, one in (below or found).items()}

    def _taken(self, path: str, found: FoundFile) -> ModelFile:
        check_model_path(path, f"{self._source}: {path!r}")
        if found.kind != "file":
            raise DefinitionError(f"{self._source}: {path} is a {found.kind}", hint="leave it out by `files`")
        return found.file


def _remove(removed: str, found: dict[str, FoundFile]) -> None:
    """Remove a path, or what is below it."""
    folder = f"{removed.rstrip('/')}/"
    for path in [path for path in found if path == removed or path.startswith(folder)]:
        del found[path]


def _hash(content: Iterator[bytes]) -> tuple[FileHash, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in content:
        digest.update(chunk)
        size += len(chunk)
    return FileHash(digest.hexdigest()), size
