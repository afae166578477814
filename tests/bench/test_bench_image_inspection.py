"""Inspecting images in a registry's files: the topmost layer with a path decides, and whiteouts apply."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
import zstandard

from buildkit.bench.image_inspection import inspect_in_registry

OCI = "application/vnd.oci.image"


def _store(data: Path, content: bytes) -> str:
    digits = hashlib.sha256(content).hexdigest()
    path = data / f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"sha256:{digits}"


def _layer(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def _push(data: Path, layers: list[tuple[bytes, str]], *, index: bool = False) -> None:
    described = [{"digest": _store(data, blob), "mediaType": kind} for blob, kind in layers]
    digest = _store(data, json.dumps({"layers": described}).encode())
    if index:
        other = {"digest": "sha256:" + "0" * 64, "platform": {"os": "unknown"}}
        images = [other, {"digest": digest, "platform": {"os": "linux"}}]
        digest = _store(data, json.dumps({"manifests": images}).encode())
    link = data / "docker/registry/v2/repositories/a/b/_manifests/tags/latest/current/link"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.write_text(digest)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("index", [False, True])
def test_inspection_reads_layers_of_every_compression(tmp_path: Path, index: bool) -> None:
    layers = [
        (gzip.compress(_layer(**{"./etc/a": "old", "etc/b": "b"})), f"{OCI}.layer.v1.tar+gzip"),
        (zstandard.compress(_layer(**{"etc/a": "new"})), f"{OCI}.layer.v1.tar+zstd"),
        (_layer(c="c"), f"{OCI}.layer.v1.tar"),
        (gzip.compress(_layer(d="d")), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ]
    _push(tmp_path, layers, index=index)
    found = inspect_in_registry(tmp_path, "a/b", ["etc/a", "etc/b", "c", "d", "none"])
    assert found == {"etc/a": _sha("new"), "etc/b": _sha("b"), "c": _sha("c"), "d": _sha("d")}


def test_inspection_respects_whiteouts(tmp_path: Path) -> None:
    below = _layer(**{"x/a": "1", "x/b": "2", "y/c": "3", "z/d": "4"})
    middle = _layer(**{"x/.wh.a": "", "y/.wh..wh..opq": "", ".wh.z": ""})
    above = _layer(**{"z/d": "5"})
    _push(tmp_path, [(blob, f"{OCI}.layer.v1.tar") for blob in (below, middle, above)])
    found = inspect_in_registry(tmp_path, "a/b", ["x/a", "x/b", "y/c", "z/d"])
    assert found == {"x/b": _sha("2"), "z/d": _sha("5")}


def test_inspection_of_a_missing_image_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="link"):
        inspect_in_registry(tmp_path, "a/b", ["x"])
