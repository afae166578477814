"""What the tests of registry clients share: a real registry behind a proxy, layouts to push, and errors to expect."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildkit.digest import Digest
from buildkit.errors import RegistryError
from buildkit.oci.reference import Ref, parse_ref
from buildkit.tools.registry import RegistryClient
from buildkit.tools.registry_errors import RegistryTimeouts
from buildkit.tools.skopeo import write_layout
from tests.faultyproxy import Fault, FaultyProxy

QUICK = RegistryTimeouts(look=30, fetch=30, push=30, waits=(0.01, 0.02, 0.03))
TRIES = 4
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Place:
    """A registry behind a proxy."""

    upstream: str
    proxy: FaultyProxy
    folder: Path
    way: str  # who does the requests: "ours" or "skopeo"

    @property
    def sends(self) -> str:
        """The method that carries a blob's bytes."""
        return "PATCH" if self.way == "skopeo" else "PUT"

    def ref(self, name: str = "some/name:one") -> Ref:
        return parse_ref(f"{self.proxy.host}/{name}", "it")


def insecure(folder: Path, *hosts: str) -> None:
    text = "".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in hosts)
    (folder / "home/.config/containers/registries.conf").write_text(text)


def registries(timeouts: RegistryTimeouts = QUICK) -> RegistryClient:
    return RegistryClient(threading.Event(), timeouts)


def make_image(folder: Path, seed: int, size: int = 300_000) -> tuple[Digest, ...]:
    """A `dir:` layout of two layers; their digests."""
    folder.mkdir()
    layers = [random.Random(seed + n).randbytes(size) for n in (0, 1000)]
    digests = tuple(Digest.of(layer) for layer in layers)
    for digest, layer in zip(digests, layers, strict=True):
        (folder / digest.hex).write_bytes(layer)
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    described = [
        {"mediaType": f"application/vnd.oci.image.{kind}", "size": size, "digest": str(digest)}
        for kind, size, digest in (
            ("config.v1+json", len(config), Digest.of(config)),
            *(("layer.v1.tar", size, digest) for digest in digests),
        )
    ]
    value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    write_layout(folder, json.dumps(value).encode(), config)
    return digests


def refusal(action: Callable[[], object]) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        action()
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 900
    return caught.value


def answer(status: int, code: str, message: str = "", **headers: str) -> Fault:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Fault(status=status, body=body, headers={"Content-Type": "application/json", **headers})


BLOB_BEING_LINKED = Fault(
    status=400,
    body=b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"},'
    b'{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry","detail":"sha256:' + b"0" * 64 + b'"}]}\n',
)
"""Docker's registry, asked to store a manifest in the moment in which another client finishes one of its blobs."""
