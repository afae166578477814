"""Compilation in containers: the next build restores damaged inputs and results, also of a killed build."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import short_folder
from tests.e2e.speaking import fill_links, make_speaking, serve_model
from tests.e2e.survival import Doomed, Moment, build_again, damage, find_blob, find_file, forget_images
from tests.e2e.tinyproject import Tiny
from tests.registry import make_authority
from tests.waiting import wait_until

pytestmark = pytest.mark.tools

_HOW = ("truncated", "flipped", "deleted")
_GONE = "its blob is missing from the cache"


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory, registry: str, links: Path) -> Iterator[tuple[Tiny, str]]:
    """A built project whose root has Python, and its digest."""
    served = tmp_path_factory.mktemp("served")
    (served / "weights.bin").write_bytes(random.Random(5).randbytes(200_000))
    authority = make_authority(tmp_path_factory.mktemp("authority"))
    with serve_model(served, authority.server_context()) as url:
        tiny = Tiny(short_folder(), registry=registry, links=shutil.copytree(links, tmp_path_factory.mktemp("l") / "l"))
        fill_links(Path(tiny.env["PIP_FIND_LINKS"]))
        tiny.env["SSL_CERT_FILE"] = str(authority.ca)
        tiny.adopt(Path(__file__).parent / "tiny")
        make_speaking(tiny, registry, tmp_path_factory.mktemp("root"), url)
        tiny.lock()
        tiny.git("init", "--quiet")
        tiny.git("add", ".")
        yield tiny, tiny.build("app").report["digest"]
        tiny.remove()


@pytest.mark.parametrize("how", _HOW)
def test_damaged_model_download_is_fetched_again(speaking: tuple[Tiny, str], how: str) -> None:
    tiny, digest = speaking
    find_blob(tiny, "models/far").unlink()
    damage(find_file(tiny, "weights.bin"), how)
    ended = build_again(tiny, digest, "--no-import")
    assert ended.built() == {"models/far": _GONE}
    assert ("far: weights.bin: the cached weights.bin was damaged" in ended.text) is (how != "deleted")


@pytest.mark.parametrize("how", _HOW)
def test_damaged_compiled_wheel_is_compiled_again(speaking: tuple[Tiny, str], how: str) -> None:
    tiny, digest = speaking
    find_blob(tiny, "deps/bin-0").unlink()
    damage(find_file(tiny, "source_only-*.whl"), how)
    ended = build_again(tiny, digest, "--no-import")
    assert ended.built() == {"deps/bin-0": _GONE}
    assert " compile  source-only 1.0" in ended.text


def test_damaged_inputs_of_a_compilation_are_restored(speaking: tuple[Tiny, str]) -> None:
    """An sdist, the root image of the bytecode compiler, and a layer that only the builder has."""
    tiny, digest = speaking
    forget_images(tiny)
    for layer in ("deps/bin-0", "deps/bulk"):
        find_blob(tiny, layer).unlink()
    find_file(tiny, "source_only-*.whl").unlink()
    damage(find_file(tiny, "source_only-*.tar.gz"), "flipped")
    damage(find_blob(tiny, "base/image"), "flipped")
    damage(find_blob(tiny, "builder/pip"), "flipped")
    ended = build_again(tiny, digest)
    for line in ("pull  base/image", "pack  builder/pip", "pack  deps/bulk", "compile  source-only 1.0"):
        assert f" {line}" in ended.text
    assert ended.text.count("planning again") >= 2
    assert tiny.run_image("app", "/opt/venv/bin/python", "-c", "import source_only as s; print(s.WORD)") == "sdist\n"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "file",
    [
        "cache/tmp/dir-*/in",  # the bytecode compiler is started
        "graph/overlay/*/diff/tmp/buildkit*",  # pip compiles in the builder
    ],
)
def test_next_build_completes_a_killed_compilation(speaking: tuple[Tiny, str], file: str, whole: bool) -> None:
    tiny, digest = speaking
    tiny.tool("buildah", "rmi", "localhost/tiny/app:latest")
    find_blob(tiny, "deps/bin-0").unlink()
    find_file(tiny, "source_only-*.whl").unlink()
    doomed = Doomed(tiny, "app")
    assert doomed.kill(Moment(file=file), whole=whole)
    tiny.build("app")
    wait_until(lambda: not doomed.living())  # the compiler waits a minute for its parent
    build_again(tiny, digest)
