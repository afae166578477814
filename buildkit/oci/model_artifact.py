"""Models as artifacts of registries: which files a manifest holds, and the manifest for files of our own. Pure.

CNCF ModelPack (https://github.com/modelpack/model-spec): ``application/vnd.cncf.model.KIND.v1.FORM``, KIND being
weight, weight.config, doc, code or dataset, and FORM raw, tar, tar+gzip or tar+zstd; a raw layer is one file whose path
is an annotation. Artifacts written before ModelPack joined the CNCF have ``cnai`` for ``cncf``. Docker's models
(https://github.com/docker/model-spec) have one raw layer a file, mostly without a path. An image with layers of its own
kind is a model image: its files are the model, those below ``/models`` if it has that folder (KServe's modelcars).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from buildkit.digest import Digest, canonical_json
from buildkit.hostile_json import JsonValue
from buildkit.oci.image import OCI_LAYER, OCI_MANIFEST
from buildkit.oci.manifest import parse_manifest_json

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_FILEPATH = "org.cncf.model.filepath"
_TITLE = "org.opencontainers.image.title"
_PATHS = (_FILEPATH, "org.cnai.model.filepath", _TITLE)
_MODELPACK = re.compile(
    r"application/vnd\.(?:cncf|cnai)\.model\.(?:weight|weight\.config|doc|code|dataset)\.v1"
    r"(?:\.(?P<form>raw|tar(?:\+gzip|\+zstd)?))?"
)
_DOCKER = re.compile(r"application/vnd\.docker\.ai\.(?P<kind>[a-z0-9.]+)")
_DOCKER_NAMES = {
    "gguf.v3": "model.gguf",
    "gguf.v3.lora": "lora.gguf",
    "gguf.v3.mmproj": "mmproj.gguf",
    "safetensors": "model.safetensors",
    "license": "LICENSE",
    "chat.template.jinja": "chat_template.jinja",
}
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_IMAGE_LAYERS = frozenset((*OCI_LAYER.values(), _DOCKER_LAYER, f"{_DOCKER_LAYER}.gzip", f"{_DOCKER_LAYER}.zstd"))
_MOST_LAYERS = 10_000
_MOST_SIZE = 1 << 50
_MOST_TEXT = 4096
_DOCUMENTS = re.compile(r"(?:readme|license|licence|notice|copying)(?:\..*)?|.*\.(?:md|rst|pdf)", re.IGNORECASE)
_SETTINGS = re.compile(r".*\.(?:json|jsonl|ya?ml|toml|txt|model|jinja|vocab|cfg|ini)", re.IGNORECASE)


class PartForm(Enum):
    """What a layer is: one file, a tar of files, or a layer of an image, which may also remove files."""

    RAW = "raw"
    TAR = "tar"
    LAYER = "layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """A layer that holds files of a model. ``path`` is that of a raw one; a tar's compression is seen in its bytes."""

    digest: Digest
    size: int
    form: PartForm
    path: str = ""


class UnknownPartError(ValueError):
    """A layer of a media type that is none of a model; the message names both."""


def parse_model_manifest(data: bytes) -> tuple[ModelPart, ...]:
    """Return the layers of a model's manifest, in order.

    Raises MalformedError for what is no manifest, UnknownPartError for a layer whose files cannot be told.
    """
    layers = parse_manifest_json(data).member("layers").items(_MOST_LAYERS)
    taken: dict[str, int] = {}
    return tuple(_read_part(layer, number, taken) for number, layer in enumerate(layers))


def _read_part(layer: JsonValue, number: int, taken: dict[str, int]) -> ModelPart:
    media_type = layer.member("mediaType").text(_MOST_TEXT)
    annotations = layer.find("annotations")
    told = annotations.text_table(1000) if annotations else {}
    path = next((told[key] for key in _PATHS if told.get(key)), "")
    form = _form_of(media_type)
    if form is PartForm.RAW and not path:
        path = _docker_name(media_type, taken)
    if form is None or (form is PartForm.RAW and not path):
        why = "is not of a model" if form is None else "has no path"
        raise UnknownPartError(f"layer {number + 1} ({media_type[:100]!r}) {why}")
    return ModelPart(
        digest=layer.member("digest").parsed(Digest.parse, "a digest"),
        size=layer.member("size").integer(0, _MOST_SIZE),
        form=form,
        path=path if form is PartForm.RAW else "",
    )


def _form_of(media_type: str) -> PartForm | None:
    if media_type in _IMAGE_LAYERS:
        return PartForm.LAYER
    if found := _MODELPACK.fullmatch(media_type):
        return PartForm.RAW if found["form"] in (None, "raw") else PartForm.TAR
    if found := _DOCKER.fullmatch(media_type):
        return PartForm.TAR if found["kind"].endswith(".tar") else PartForm.RAW
    return None


def _docker_name(media_type: str, taken: dict[str, int]) -> str:
    """Return the name of a file that Docker's format gives none: shards and licences are numbered from the second."""
    found = _DOCKER.fullmatch(media_type)
    name = _DOCKER_NAMES.get(found["kind"], "") if found else ""
    if not name:
        return ""
    taken[name] = taken.get(name, 0) + 1
    stem, dot, end = name.partition(".")
    return name if taken[name] == 1 else f"{stem}-{taken[name]}{dot}{end}"


def media_type_of(path: str) -> str:
    """Return the media type of ModelPack for a file, as it is, by its name."""
    name, kind = posixpath.basename(path), "weight"
    if _DOCUMENTS.fullmatch(name):
        kind = "doc"
    elif name.endswith(".py"):
        kind = "code"
    elif _SETTINGS.fullmatch(name):
        kind = "weight.config"
    return f"application/vnd.cncf.model.{kind}.v1.raw"


def render_model_artifact(
    name: str, version: str, licence: str, files: Sequence[tuple[str, Digest, int]]
) -> tuple[bytes, bytes]:
    """Return manifest and config of ModelPack for files (path, digest, bytes); the same files give the same bytes."""
    told = {"name": name, "version": version, "licenses": [licence] if licence else []}
    config = {
        "descriptor": {key: value for key, value in told.items() if value},
        "modelfs": {"type": "layers", "diffIds": [str(digest) for _, digest, _ in files]},
        "config": {},
    }
    data = canonical_json(config).encode()
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": str(Digest.of(data)), "size": len(data)},
        "layers": [
            {"mediaType": media_type_of(path), "digest": str(digest), "size": size,
             "annotations": {_FILEPATH: path, _TITLE: path}}
            for path, digest, size in files
        ],
    }  # fmt: skip
    return canonical_json(manifest).encode(), data
