"""Whatever of the cache was truncated, flipped by a bit or deleted: it is said, made anew, and never used."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import short_folder
from tests.e2e.speaking import fill_links, make_speaking, serve_model
from tests.e2e.survival import damage, find_blob, find_file, left_behind, unsound
from tests.e2e.tinyproject import Ended, Tiny
from tests.registry import make_authority

pytestmark = pytest.mark.tools

_HOW = ("truncated", "flipped", "deleted")
_GONE = "its blob is gone from the cache"


def build_again(tiny: Tiny, stage: str, digest: str, *arguments: str) -> Ended:
    """The same image, from a cache that is whole again."""
    ended = tiny.build(stage, *arguments)
    assert ended.report["digest"] == digest, ended.text
    assert unsound(tiny) == []
    assert left_behind(tiny) == []
    return ended


def forget_images(tiny: Tiny) -> None:
    tiny.tool("buildah", "rmi", "--all", "--force")


@pytest.mark.parametrize("how", _HOW)
def test_layers(tiny: Tiny, how: str) -> None:
    """Those made here and those pulled; for delivery, and for a container that a step runs in."""
    digest = tiny.build("app").report["digest"]
    for layer in ("deps/bulk", "base/image"):
        forget_images(tiny)
        damage(find_blob(tiny, layer), how)
        ended = build_again(tiny, "app", digest)
        assert ended.built() == {layer: _GONE}
        assert tiny.run_image("app") == "hello from /app\n"
        assert ("were damaged, and are removed" in ended.text) is (how == "flipped")  # else the plan has it
    forget_images(tiny)
    damage(find_blob(tiny, "base/image"), how)
    assert tiny.build("tools").built().keys() == {"base/image", "tools/write", "tools/link"}
    assert tiny.run_image("tools", "cat", "/opt/tools/copy") == "of the recipe\nsweet\n"
    assert unsound(tiny) == []


@pytest.mark.parametrize("how", _HOW)
def test_downloads(tiny: Tiny, how: str) -> None:
    digest = tiny.build("app").report["digest"]
    find_blob(tiny, "deps/bulk").unlink()
    damage(find_file(tiny, "bulk-*.whl"), how)
    ended = build_again(tiny, "app", digest, "--no-import")
    assert ended.built() == {"deps/bulk": _GONE}
    assert ended.report["bytes"]["fetched"] > 100_000
    said = "bulk 1.0: the cached bulk-1.0-py3-none-any.whl was damaged, and is removed; planning again"
    assert (said in ended.text) is (how != "deleted")


def test_a_download_that_cannot_be_had_again_is_said(tiny: Tiny) -> None:
    tiny.build("app")
    find_blob(tiny, "deps/bulk").unlink()
    damage(find_file(tiny, "bulk-*.whl"), "flipped")
    (tiny.folder / "links/bulk-1.0-py3-none-any.whl").unlink()
    message = tiny.refuse("app", "--no-import", code=1)
    assert "no index and no find-links has bulk==1.0" in message
    assert not find_blob(tiny, "deps/bulk").exists()
    assert tiny.left_over() == []


@pytest.mark.parametrize("how", _HOW)
def test_pushing(tiny: Tiny, registry: str, how: str) -> None:
    tiny.write("stages/app/app/main.sh", f"echo {tiny.folder.name}\n")  # a layer that the registry has not seen
    digest = tiny.build("app").report["digest"]
    damage(find_blob(tiny, "app/app"), how)
    name = f"{registry}/damaged/{how}:1"
    ended = build_again(tiny, "app", digest, "--push", name)
    assert ended.built() == {"app/app": _GONE}
    tiny.tool("podman", "pull", "--quiet", name)
    assert tiny.tool("podman", "run", "--rm", "--network=none", name) == f"{tiny.folder.name}\n"


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory, registry: str, links: Path) -> Iterator[tuple[Tiny, str]]:
    """A project whose root speaks Python, built; and its digest."""
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
def test_models_from_the_network(speaking: tuple[Tiny, str], how: str) -> None:
    tiny, digest = speaking
    find_blob(tiny, "models/far").unlink()
    damage(find_file(tiny, "weights.bin"), how)
    ended = build_again(tiny, "app", digest, "--no-import")
    assert ended.built() == {"models/far": _GONE}
    assert ("far: weights.bin: the cached weights.bin was damaged" in ended.text) is (how != "deleted")


@pytest.mark.parametrize("how", _HOW)
def test_compiled_wheels(speaking: tuple[Tiny, str], how: str) -> None:
    tiny, digest = speaking
    find_blob(tiny, "deps/bin-0").unlink()
    damage(find_file(tiny, "source_only-*.whl"), how)
    ended = build_again(tiny, "app", digest, "--no-import")
    assert ended.built() == {"deps/bin-0": _GONE}
    assert " compile  source-only 1.0" in ended.text


def test_what_compiling_needs(speaking: tuple[Tiny, str]) -> None:
    """An sdist, the root that the bytecode compiler starts from, and a layer that only the builder has."""
    tiny, digest = speaking
    forget_images(tiny)
    for layer in ("deps/bin-0", "deps/bulk"):
        find_blob(tiny, layer).unlink()
    find_file(tiny, "source_only-*.whl").unlink()
    damage(find_file(tiny, "source_only-*.tar.gz"), "flipped")
    damage(find_blob(tiny, "base/image"), "flipped")
    damage(find_blob(tiny, "builder/pip"), "flipped")
    ended = build_again(tiny, "app", digest)
    for said in ("pull  base/image", "pack  builder/pip", "pack  deps/bulk", "compile  source-only 1.0"):
        assert f" {said}" in ended.text
    assert ended.text.count("planning again") >= 2
    assert tiny.run_image("app", "/opt/venv/bin/python", "-c", "import source_only as s; print(s.WORD)") == "sdist\n"
