"""Archives for an engine that keeps images in containerd; tests/e2e/test_docker_delivery.py asks a real one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from buildkit.build.deliver_docker import load_into_docker
from buildkit.declare.stage import Config
from buildkit.digest import DiffId, Digest
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image, Layer
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import LayerBytes

REF = "localhost/tiny/app:latest"
# refuses archives that lack a layer, as containerd does
_ENGINE = """#!/bin/sh
cd {folder}
case "$*" in
    "image inspect -- "*) if [ -e loaded ]; then cat image.json; else echo "Error: No such image: x" >&2; exit 1; fi ;;
    "image ls "*) echo sha256:1 ;;
    "image inspect --format"*) echo '["{lowest}"]' ;;
    "load --quiet") n=$(ls archive* 2>/dev/null | wc -l); cat >archive$n
        tar tf archive$n | grep -q {lowest_hex} || {{ echo "content digest: not found" >&2; exit 1; }}
        touch loaded ;;
esac
"""


def layer(blobs: Blobs, text: bytes) -> Layer:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    data = out.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    blobs.path(Digest(digest)).write_bytes(data)
    size = len(data)
    blob = Blob(digest=Digest(digest), diff_id=DiffId(digest), size=size, unpacked=size, compression=Compression.NONE)
    return Layer(blob=blob, history="a test")


def test_engine_that_refuses_the_short_archive_gets_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(tmp_path / "cache")
    image = Image(layers=(layer(blobs, b"one"), layer(blobs, b"two")), config=Config(user="1000"), arch="amd64")
    lowest, upper = (str(each.blob.diff_id) for each in image.layers)
    wanted = json.loads(image.config_blob())
    known = {"Config": wanted["config"] | {"Hostname": "", "Cmd": None}, "RootFS": {"Layers": [lowest, upper]}}
    (tmp_path / "image.json").write_text(json.dumps([known]))
    program = tmp_path / "docker"
    hex_digits = lowest.partition(":")[2]
    program.write_text(_ENGINE.format(folder=tmp_path, lowest=lowest, lowest_hex=hex_digits))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    size = load_into_docker(image, REF, LayerBytes(blobs))
    assert size == sum(each.blob.unpacked for each in image.layers)
    files = []
    for archive in sorted(tmp_path.glob("archive*")):
        with tarfile.open(archive) as tar:
            files.append(tar.getnames()[2:])
            (entry,) = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
            assert entry["RepoTags"] == [REF]
    assert files == [[f"{upper[7:]}.tar"], [f"{lowest[7:]}.tar", f"{upper[7:]}.tar"]]
    assert load_into_docker(image, REF, LayerBytes(blobs)) == 0
