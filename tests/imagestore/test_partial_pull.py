"""Real podman pulls zstd:chunked layers in parts, and as whole layers where it does not know how."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit.declare.stage import Config
from buildkit.digest import Digest
from buildkit.layers.tar.blob_stream import BlobStream
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob
from buildkit.oci.image import Image, Layer
from tests.containers import container_environment
from tests.e2e.tinyroot import make_root_tar
from tests.faultyproxy import FaultyProxy
from tests.imagestore.debian13 import ensure_root, inside
from tests.imagestore.hosts import StorageHost
from tests.imagestore.tars import cut, entry, folder, make_tar
from tests.registry import serve_registry

pytestmark = [
    pytest.mark.tools,
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts another root"),
]
_PARTIAL = '[storage.options.pull_options]\nenable_partial_images = "true"\n'
_FILES = {f"opt/lib/{number:02}.so": os.urandom(60_000) for number in range(20)}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    """A registry with ``chunked:1``, ``chunked:2``, ``zstd:1`` and ``zstd:2``: one file differs between 1 and 2."""
    place = tmp_path_factory.mktemp("registry")
    root = make_root_tar()
    with serve_registry(place) as host, FaultyProxy(host) as proxy:
        for version in (1, 2):
            files = _FILES | {"opt/lib/05.so": b"%d" % version + os.urandom(60_000)}
            members = [folder("opt"), folder("opt/lib"), *(entry(name, data) for name, data in files.items())]
            above = make_tar(*members, entry("opt/text", b"%d\n" % version), entry("opt/none"))
            for how in (Compression.CHUNKED, Compression.ZSTD):
                name = f"{host}/{'chunked' if how is Compression.CHUNKED else 'zstd'}:{version}"
                _push(place / f"image-{version}-{how.name}", (root, above), how, name)
        yield proxy


def _push(place: Path, tars: tuple[bytes, ...], how: Compression, name: str) -> None:
    place.mkdir()
    layers = tuple(Layer(blob=_pack(place, tar, how), history="a test") for tar in tars)
    image = Image(layers=layers, config=Config(env=(("PATH", "/usr/bin"),), cmd=("cat", "/opt/text")), arch="amd64")
    (place / Digest.of(image.config_blob()).hex).write_bytes(image.config_blob())
    (place / "manifest.json").write_bytes(image.oci_manifest())
    (place / "version").write_text("Directory Transport Version: 1.1\n")
    argv = ("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false")
    env = os.environ | container_environment(place)
    subprocess.run((*argv, f"dir:{place}", f"docker://{name}"), env=env, check=True)


def _pack(place: Path, tar: bytes, how: Compression) -> Blob:
    with (place / "new").open("wb") as out, BlobStream(out, how) as stream:
        for block in cut(tar, None):
            stream.write(block)
        packed = stream.finish()
    (place / "new").rename(place / packed.digest.hex)
    return Blob.of(packed)


@contextmanager
def _host(proxy: FaultyProxy, *, debian13: bool, more: str = "") -> Iterator[StorageHost]:
    host = StorageHost(Path(tempfile.mkdtemp(prefix="bk-")))
    host.prepare(proxy.host, stores=False)
    conf = host.folder / "storage.conf"
    conf.write_text(conf.read_text() + more)
    try:
        if debian13:
            with inside(ensure_root(), host) as debian:
                yield debian
        else:
            yield host
    finally:
        host.remove()


def _pull(host: StorageHost, proxy: FaultyProxy, name: str) -> int:
    """Pull and run an image; return the bytes that came."""
    proxy.clear()
    host.tool("podman", "pull", "--quiet", f"{proxy.host}/{name}")
    moved = sum(request.down for request in proxy.requests if "/blobs/" in request.path)
    assert host.run(f"{proxy.host}/{name}") == name[-1] + "\n"
    return moved


def test_podman_5_pulls_the_changed_file_alone(proxy: FaultyProxy) -> None:
    with _host(proxy, debian13=True, more=_PARTIAL) as host:
        whole = _pull(host, proxy, "chunked:1")
        assert whole > 20 * 60_000
        assert any("range" in request.headers for request in proxy.requests), "pulled as a whole"
        assert _pull(host, proxy, "chunked:2") < 60_000 * 2
        assert _pull(host, proxy, "zstd:2") > 20 * 60_000


@pytest.mark.parametrize("debian13", [False, True])
def test_podman_that_does_not_pull_parts_takes_it_for_zstd(proxy: FaultyProxy, debian13: bool) -> None:
    with _host(proxy, debian13=debian13) as host:
        assert _pull(host, proxy, "chunked:1") > 20 * 60_000
        assert not any("range" in request.headers for request in proxy.requests)
