"""Golden manifests and configs of images, with every field where the specification has it."""

from __future__ import annotations

import json

from buildkit.declare.stage import Config, Healthcheck
from buildkit.digest import DiffId, Digest
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image, Layer, render_config

CONFIG = Config(
    user="ml",
    workdir="/app",
    entrypoint=("tini",),
    cmd=("python", "main.py"),
    env=(("PATH", "/usr/bin"), ("NAME", "Zoë=1")),
    ports=("8000", "53/udp", "8000/tcp"),
    volumes=("/data",),
    labels=(("b", "2"), ("a", "1")),
    stop_signal="SIGTERM",
    healthcheck=Healthcheck(test=("check", "-x"), interval=30, timeout=5, start_period=10, retries=4),
)


def blob(digit: str, compression: Compression) -> Blob:
    return Blob(
        digest=Digest(digit * 64),
        diff_id=DiffId(digit * 64),
        size=10,
        unpacked=100,
        compression=compression,
    )


IMAGE = Image(
    layers=(
        Layer(blob=blob("1", Compression.ZSTD), history="Debian"),
        Layer(blob=blob("2", Compression.GZIP), history="wheels: x 1"),
        Layer(blob=blob("3", Compression.NONE), history="model: µ"),
    ),
    config=CONFIG,
    arch="amd64",
)
CONFIG_BYTES = (
    '{"architecture":"amd64","config":{"Cmd":["python","main.py"],"Entrypoint":["tini"],'
    '"Env":["PATH=/usr/bin","NAME=Zoë=1"],"ExposedPorts":{"8000/tcp":{},"53/udp":{}},"Labels":{"a":"1","b":"2"},'
    '"StopSignal":"SIGTERM","User":"ml","Volumes":{"/data":{}},"WorkingDir":"/app",'
    '"Healthcheck":{"Test":["CMD","check","-x"],"Interval":30000000000,"Timeout":5000000000,'
    '"StartPeriod":10000000000,"Retries":4}},"created":"1970-01-01T00:00:00Z","history":['
    '{"created":"1970-01-01T00:00:00Z","created_by":"Debian","comment":"buildkit"},'
    '{"created":"1970-01-01T00:00:00Z","created_by":"wheels: x 1","comment":"buildkit"},'
    '{"created":"1970-01-01T00:00:00Z","created_by":"model: µ","comment":"buildkit"}],"os":"linux",'
    '"rootfs":{"type":"layers","diff_ids":["sha256:' + "1" * 64 + '","sha256:' + "2" * 64 + '","sha256:' + "3" * 64
    + '"]}}'
)  # fmt: skip


def test_config_has_golden_bytes() -> None:
    assert IMAGE.config_blob().decode() == CONFIG_BYTES


def test_image_documents_have_golden_digests() -> None:
    assert (
        str(Digest.of(IMAGE.config_blob())) == "sha256:7a57e2c104feb478ed4f7e5b37525ba241f9676d6c2661a4bbb168e5dd99e22a"
    )
    assert (
        str(Digest.of(IMAGE.oci_manifest()))
        == "sha256:15f52134f93ce4f389f4de957c897948db6fe72898d9a6978356b25dabf6c0b2"
    )
    assert (
        str(Digest.of(IMAGE.docker_manifest()))
        == "sha256:f4cc813b3614180705795a1ad027d49113959a9f1a6dc2eac717ed5fc194060e"
    )


def test_oci_manifest_names_stored_blobs() -> None:
    manifest = json.loads(IMAGE.oci_manifest())
    config = IMAGE.config_blob()
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(Digest.of(config)),
            "size": len(config),
        },
        "layers": [
            {"mediaType": f"application/vnd.oci.image.layer.v1.tar{how}", "digest": f"sha256:{digit * 64}", "size": 10}
            for digit, how in (("1", "+zstd"), ("2", "+gzip"), ("3", ""))
        ],
    }


def test_docker_manifest_names_layers_by_diff_id() -> None:
    manifest = json.loads(IMAGE.docker_manifest())
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    kind = "application/vnd.docker.image.rootfs.diff.tar"
    diff_ids = json.loads(IMAGE.config_blob())["rootfs"]["diff_ids"]
    assert manifest["layers"] == [{"mediaType": kind, "digest": name, "size": 100} for name in diff_ids]


def test_unset_values_are_absent_from_the_config() -> None:
    assert render_config(Config()) == {}
    bare = json.loads(Image(layers=(), config=Config(), arch="arm64").config_blob())
    assert bare["config"] == {}
    assert bare["architecture"] == "arm64"
    assert bare["rootfs"]["diff_ids"] == []


def test_labels_are_sorted_but_the_order_of_the_environment_is_kept() -> None:
    made = render_config(Config(labels=(("z", "1"), ("y", "2")), env=(("Z", "1"), ("Y", "2"))))
    assert list(made["Labels"]) == ["y", "z"]
    assert made["Env"] == ["Z=1", "Y=2"]
