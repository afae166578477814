"""An image of three layers, and a registry."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

import pytest

from buildkit.declare.stage import Config, Healthcheck
from buildkit.oci.image import Image
from tests.e2e.tinyroot import make_root_tar
from tests.imagestore.tars import entry, folder, image_of, make_tar
from tests.registry import serve_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def tars() -> tuple[bytes, ...]:
    """A root, files above it, and whiteouts above these."""
    files = make_tar(
        folder("opt/app"),
        entry("opt/app/text", b"hello\n"),
        entry("opt/app/hard", type=tarfile.LNKTYPE, linkname="opt/app/text"),
        folder("opt/old"),
        entry("opt/old/x", b"1"),
        entry("opt/theirs", b"not root's", uid=1234, gid=1234),
    )
    above = make_tar(entry("usr/bin/.wh.touch"), folder("opt/old"), entry("opt/old/.wh..wh..opq"), entry("opt/old/y"))
    return make_root_tar(), files, above


@pytest.fixture(scope="module")
def image(tars: tuple[bytes, ...]) -> Image:
    health = Healthcheck(test=("cat", "/opt/app/text"), interval=30, timeout=30, retries=3)
    config = Config(env=(("PATH", "/usr/bin"),), cmd=("cat", "/opt/app/text"), healthcheck=health)
    return image_of(*tars, config=config)
