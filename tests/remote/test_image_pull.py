"""Pulled images: every byte is verified under any compression, and malformed images are refused."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from buildkit.digest import DiffId, Digest
from buildkit.errors import BuildError, MismatchError, RegistryError
from buildkit.layers.tar.member import Compression
from buildkit.locks.pins import PinnedImage
from buildkit.oci.blob import Blob, LayerResult
from buildkit.oci.reference import parse_ref
from buildkit.remote.image_pull import pull_image
from buildkit.store.blobs import Blobs
from buildkit.tools.arriving_files import ArrivingFiles
from buildkit.tools.registry_errors import registry_error
from tests.waiting import wait_until

REF = "registry.test/x@sha256:" + "0" * 64
TAR = bytes(range(256)) * 9000  # more than two chunks


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKED: dict[str, tuple[bytes, Compression]] = {
    "plain": (TAR, Compression.NONE),
    "gzip": (gzip.compress(TAR, mtime=0), Compression.GZIP),
    "gzip of two members": (gzip.compress(TAR[:5000], mtime=0) + gzip.compress(TAR[5000:], mtime=0), Compression.GZIP),
    "zstd": (zstd(TAR), Compression.ZSTD),
    "zstd of many frames": (zstd(TAR[:7]) + zstd(TAR[7:9000]) + zstd(TAR[9000:]), Compression.ZSTD),
}


class Registry:
    """Answers a copy with a folder as a registry client writes it."""

    def __init__(self, *layers: bytes, diff_ids: list[str] | None = None, **config: object) -> None:
        self.files = {Digest.of(layer).hex: layer for layer in layers}
        known = diff_ids if diff_ids is not None else [str(DiffId.of(TAR))] * len(layers)
        self.config: object = {"architecture": "amd64", "rootfs": {"diff_ids": known}, **config}
        self.layers = [{"digest": str(Digest.of(layer)), "size": len(layer)} for layer in layers]
        self.manifest: object = None

    def copy(self, ref: str, folder: Path, arch: str, _arriving: object = None) -> None:
        assert (ref, arch) == (REF, "amd64")
        config = json.dumps(self.config).encode()
        digest = Digest.of(config)
        described = {"digest": str(digest), "size": len(config)}
        manifest = self.manifest or {"schemaVersion": 2, "config": described, "layers": self.layers}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        for name, data in {digest.hex: config, **self.files}.items():
            (folder / name).write_bytes(data)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "cache")


@pytest.fixture
def pull(blobs: Blobs) -> Callable[[Registry], LayerResult]:
    def pulled(registry: Registry) -> LayerResult:
        return pull_image(PinnedImage(ref=REF, pinned=REF), "amd64", registry.copy, blobs)

    return pulled


Pull = Callable[[Registry], LayerResult]


@pytest.mark.parametrize("kind", PACKED)
def test_pulled_layer_keeps_its_bytes_and_gets_its_diff_id(pull: Pull, blobs: Blobs, kind: str) -> None:
    data, compression = PACKED[kind]
    made = pull(Registry(data, config={"Env": ["A=1", "PATH=/cuda"]}))
    digest = Digest.of(data)
    expected = Blob(digest=digest, diff_id=DiffId.of(TAR), size=len(data), unpacked=len(TAR), compression=compression)
    assert made == LayerResult(blobs=(expected,), config='{"Env":["A=1","PATH=/cuda"]}')
    assert blobs.path(digest).read_bytes() == data
    assert list((blobs.folder / "tmp").iterdir()) == []


def test_what_came_of_another_image_does_not_count(blobs: Blobs) -> None:
    """Whoever goes on with a download may choose another image of an index."""
    (first, _), (second, _) = PACKED["gzip"], PACKED["zstd"]

    def fetch(ref: str, folder: Path, arch: str, arriving: ArrivingFiles) -> None:
        Registry(first).copy(ref, folder, arch)
        arriving.begin((folder / "manifest.json").read_bytes())
        for path in folder.iterdir():
            arriving.report(path, path.stat().st_size)
            arriving.complete(path)
        wait_until(lambda: blobs.has(Digest.of(first), len(first)))
        arriving.withdraw()
        for path in folder.iterdir():
            path.unlink()
        Registry(second).copy(ref, folder, arch)

    made = pull_image(PinnedImage(ref=REF, pinned=REF), "amd64", fetch, blobs)
    assert [blob.digest for blob in made.blobs] == [Digest.of(second)]


def test_layer_that_an_image_has_twice_is_in_the_result_twice(pull: Pull) -> None:
    other = TAR[::-1]
    ids = [str(DiffId.of(tar)) for tar in (TAR, other, TAR)]
    made = pull(Registry(TAR, other, TAR, diff_ids=ids))
    assert [str(blob.diff_id) for blob in made.blobs] == ids


def test_image_that_the_registry_no_longer_has_names_the_command_that_takes_another(blobs: Blobs) -> None:
    def fetch(ref: str, _folder: Path, _arch: str, _arriving: object) -> None:
        raise registry_error(parse_ref(ref, "x"), "fetching", "404 Not Found: manifest unknown: sha256:0")

    digest = Digest.parse(REF.partition("@")[2])
    message = rf"the registry no longer has {REF}, which requirements/images\.lock names"
    with pytest.raises(RegistryError, match=message) as gone:
        pull_image(PinnedImage(ref=REF, pinned=REF, manifests=(digest,)), "amd64", fetch, blobs)
    assert gone.value.hint == "run: nox -s lock -- --upgrade-images"
    with pytest.raises(RegistryError, match="manifest unknown"):  # written in the stage file: no lock to refresh
        pull_image(PinnedImage(ref=REF, pinned=REF), "amd64", fetch, blobs)


@pytest.mark.parametrize("config", [{}, {"config": None}, {"config": {}}, {"config": {"Env": None}}])
def test_image_may_have_no_config(pull: Pull, config: dict[str, object]) -> None:
    assert pull(Registry(TAR, **config)).config == "{}"


def test_run_config_is_kept_and_build_triggers_are_not(pull: Pull) -> None:
    config = {
        "User": "1234", "Env": ["A=1"], "Entrypoint": ["/e"], "Cmd": ["c"], "WorkingDir": "/w", "Labels": {"a": "1"},
        "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "SIGQUIT",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5, "Retries": 2},
    }  # fmt: skip
    others = {"OnBuild": ["RUN x"], "Shell": ["/bin/sh"], "ArgsEscaped": True, "Image": "x", "Hostname": ""}
    assert json.loads(pull(Registry(TAR, config={**config, **others})).config) == config


@pytest.mark.parametrize(
    "config",
    [
        {"User": 1234}, {"Entrypoint": "/bin/sh -c x"}, {"Cmd": [1]}, {"Volumes": ["/v"]}, {"ExposedPorts": "80"},
        {"Labels": {"a": 1}}, {"Healthcheck": {"Test": "true"}}, {"Healthcheck": {"Interval": "5s"}},
        {"WorkingDir": "/\0"}, {"user": "0"},
    ],
)  # fmt: skip
def test_run_config_of_wrong_types_is_refused(pull: Pull, config: dict[str, object]) -> None:
    with pytest.raises(BuildError, match="not an image that can be read"):
        pull(Registry(TAR, config=config))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damaged_layer_with_a_matching_digest_is_refused(pull: Pull, blobs: Blobs, kind: str) -> None:
    data = PACKED[kind][0]
    for bad in (data[: len(data) // 2], data[:20] + b"\xff" * 50 + data[70:], data[:40]):
        with pytest.raises(MismatchError, match=r"^layer [0-9a-f]{12} (cannot be unpacked|unpacks to other bytes)"):
            pull(Registry(bad))
    assert list((blobs.folder / "sha256").iterdir()) == []


def test_bytes_that_differ_from_their_digest_are_refused(pull: Pull) -> None:
    registry = Registry(TAR)
    registry.files[Digest.of(TAR).hex] = b"other"
    with pytest.raises(MismatchError, match="the registry gave other bytes"):
        pull(registry)


def test_image_for_another_architecture_is_refused(pull: Pull) -> None:
    with pytest.raises(MismatchError, match="is for arm64, not for amd64"):
        pull(Registry(TAR, architecture="arm64"))


def test_image_is_one_of_those_that_the_lock_names(blobs: Blobs) -> None:
    registry = Registry(TAR)
    registry.copy(REF, blobs.folder, "amd64")
    right, wrong = Digest.of((blobs.folder / "manifest.json").read_bytes()), Digest("f" * 64)
    image = PinnedImage(ref=REF, pinned=REF, manifests=(wrong, right))
    assert pull_image(image, "amd64", registry.copy, blobs).blobs
    with pytest.raises(MismatchError, match="the lock names other images for amd64") as caught:
        pull_image(replace(image, manifests=(wrong,)), "amd64", registry.copy, blobs)
    assert "--upgrade-images" in caught.value.hint


def test_different_numbers_of_layers_and_diff_ids_are_refused(pull: Pull) -> None:
    with pytest.raises(BuildError, match="1 layers, but 2 diff_ids"):
        pull(Registry(TAR, diff_ids=[str(DiffId.of(TAR))] * 2))


@pytest.mark.parametrize(
    "manifest",
    [
        {"manifests": []},
        [],
        {"config": 3},
        {"config": {"digest": "md5:x"}},
        {"config": {"digest": "sha256:" + "9" * 64}},
        {"schemaVersion": 2, "config": {"digest": str(Digest.of(b"x"))}, "layers": [], "Layers": []},
    ],
)
def test_malformed_image_manifest_is_refused(pull: Pull, manifest: object) -> None:
    registry = Registry(TAR)
    registry.manifest = manifest or {"schemaVersion": 1}
    with pytest.raises(BuildError, match="not an image that can be read"):
        pull(registry)


def test_missing_layer_is_refused(pull: Pull) -> None:
    registry = Registry(TAR)
    del registry.files[Digest.of(TAR).hex]
    with pytest.raises(BuildError, match="gave no layer"):
        pull(registry)


@pytest.mark.parametrize("line", ["A=\ud800", "A=\0"])
def test_impossible_environment_variable_is_refused(pull: Pull, line: str) -> None:
    with pytest.raises(BuildError, match="not an image that can be read"):
        pull(Registry(TAR, config={"Env": [line]}))


@pytest.mark.parametrize("config", [[], {"rootfs": None}, {"rootfs": {"diff_ids": ["x"]}}])
def test_malformed_config_is_refused(pull: Pull, config: object) -> None:
    registry = Registry(TAR)
    registry.config = config
    with pytest.raises(BuildError, match="not an image that can be read"):
        pull(registry)


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, 9, mtime=0), zstd], ids=["gzip", "zstd"])
def test_highly_compressed_layer_is_pulled_in_little_memory(pull: Pull, pack: Callable[[bytes], bytes]) -> None:
    zeros = bytes(96 << 20)
    registry = Registry(pack(zeros), diff_ids=[str(DiffId.of(zeros))])
    del zeros
    tracemalloc.start()
    try:
        assert pull(registry).blobs[0].unpacked == 96 << 20
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
