"""Images as values, and the bytes of their configs and manifests.

Two manifests describe one config. The OCI one carries the blobs as they are stored (zstd). The Docker one
(image manifest v2, schema 2) names layers by their uncompressed tars, which local storage knows by diff_id, and keeps
HEALTHCHECK, which podman reads from images of that type alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from buildkit.declare.stage import Config
from buildkit.digest import DiffId, Digest
from buildkit.layers.tar.member import Compression
from buildkit.lazy_dataclass import dataclass
from buildkit.oci.blob import Blob
from buildkit.oci.run_config import inherit_config

EPOCH = "1970-01-01T00:00:00Z"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
OCI_LAYER = {
    Compression.NONE: "application/vnd.oci.image.layer.v1.tar",
    Compression.GZIP: "application/vnd.oci.image.layer.v1.tar+gzip",
    Compression.ZSTD: "application/vnd.oci.image.layer.v1.tar+zstd",
    Compression.CHUNKED: "application/vnd.oci.image.layer.v1.tar+zstd",
}
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
REVISION = "org.opencontainers.image.revision"
CREATED = "org.opencontainers.image.created"
MODELS = "io.xoe.buildkit.models"
"""What an image and that of the models which its containers mount have in common.

As a label, it is a key of all models; in the manifest of the image that mounts, the digest of the other manifest.
"""
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer as an image refers to it: its blob, and the text of its history line."""

    blob: Blob
    history: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: its ``config``, its ``arch`` in Debian's terms, and its ``layers``, lowest first.

    ``inherited`` is the run config of a registry's image below, as JSON; ``config`` has its environment already.
    ``created`` is a time by RFC 3339. ``models`` is the digest of the manifest of its models, if containers mount
    them and they were pushed.
    """

    layers: tuple[Layer, ...]
    config: Config
    arch: str
    inherited: str = "{}"
    created: str = EPOCH
    models: Digest | None = None

    def of_commit(self, revision: str, created: str) -> Image:
        """Return the same image with the labels of a commit: its id, and its time by RFC 3339."""
        labels = dict(self.config.labels) | {REVISION: revision, CREATED: created}
        return replace(self, config=replace(self.config, labels=tuple(labels.items())), created=created)

    @property
    def _blobs(self) -> list[Blob]:
        return [layer.blob for layer in self.layers]

    @property
    def starts(self) -> bool:
        """Whether a container has something to run: an entrypoint or a command, perhaps of the image below."""
        run = json.loads(self.config_blob())["config"]
        return bool(run.get("Entrypoint") or run.get("Cmd"))

    def config_blob(self) -> bytes:
        """Return the image config (OCI image specification, with Docker's Healthcheck)."""
        return _encode(
            {
                "architecture": self.arch,
                "config": inherit_config(json.loads(self.inherited), render_config(self.config)),
                "created": self.created,
                "history": [
                    {"created": EPOCH, "created_by": layer.history, "comment": "buildkit"} for layer in self.layers
                ],
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [str(layer.blob.diff_id) for layer in self.layers]},
            }
        )

    def oci_manifest(self) -> bytes:
        """Return the manifest that names the blobs as they are stored."""
        layers = [
            _descriptor(OCI_LAYER[x.compression], x.digest, x.size)
            | ({"annotations": x.toc.annotations()} if x.toc else {})
            for x in self._blobs
        ]
        annotations = {"annotations": {MODELS: str(self.models)}} if self.models else {}
        return self._manifest(OCI_MANIFEST, OCI_CONFIG, layers, annotations)

    def docker_manifest(self) -> bytes:
        """Return the manifest of uncompressed layers, for local storage."""
        layers = [_descriptor(_DOCKER_LAYER, x.diff_id, x.unpacked) for x in self._blobs]
        return self._manifest(DOCKER_MANIFEST, DOCKER_CONFIG, layers)

    def _manifest(
        self, media_type: str, config_type: str, layers: Sequence[dict[str, Any]], more: dict[str, Any] | None = None
    ) -> bytes:
        config = self.config_blob()
        return _encode(
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "config": _descriptor(config_type, Digest.of(config), len(config)),
                "layers": layers,
                **(more or {}),
            }
        )


def render_config(config: Config) -> dict[str, Any]:
    """Return the ``config`` object of an image config; values that no stage sets are absent."""
    known: dict[str, Any] = {
        "Cmd": list(config.cmd),
        "Entrypoint": list(config.entrypoint),
        "Env": [f"{name}={value}" for name, value in config.env],
        "ExposedPorts": {port if "/" in port else f"{port}/tcp": {} for port in config.ports},
        "Labels": dict(sorted(config.labels)),
        "StopSignal": config.stop_signal,
        "User": config.user,
        "Volumes": {volume: {} for volume in config.volumes},
        "WorkingDir": config.workdir,
    }
    health = config.healthcheck
    if health is not None:
        known["Healthcheck"] = {
            "Test": ["CMD", *health.test],
            "Interval": health.interval * _NANOSECONDS,
            "Timeout": health.timeout * _NANOSECONDS,
            "StartPeriod": health.start_period * _NANOSECONDS,
            "Retries": health.retries,
        }
    return {key: value for key, value in known.items() if value}


def _descriptor(media_type: str, digest: Digest | DiffId, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
