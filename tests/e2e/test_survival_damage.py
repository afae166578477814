"""Truncated, bit-flipped or deleted files of the cache are reported, rebuilt, and never used."""

from __future__ import annotations

import re

import pytest

from tests.e2e.survival import build_again, damage, find_blob, find_file, forget_images, unsound
from tests.e2e.tinyproject import SessionResult, Tiny

pytestmark = pytest.mark.tools

_HOW = ("truncated", "flipped", "deleted")
_GONE = "its blob is missing from the cache"
_DAMAGED = "its blob was damaged and removed on DAY: found by a build"
_TAKE_AWAY = """from pathlib import Path
from buildkit.build import build_layers as build
kept = build.run_tasks
def run_tasks(*args):
    build.run_tasks = kept
    Path({file!r}).unlink()
    kept(*args)
build.run_tasks = run_tasks
"""


def built(ended: SessionResult) -> dict[str, str]:
    """Return the names of built layers, with the reasons."""
    return {name: re.sub(r"\d{4}-\d\d-\d\d", "DAY", why) for name, why in ended.built().items()}


@pytest.mark.parametrize("how", _HOW)
def test_damaged_layer_blobs_are_rebuilt(tiny: Tiny, how: str) -> None:
    """Both built and pulled layers, for import and for the container of a step."""
    digest = tiny.build("app").report["digest"]
    for layer in ("deps/bulk", "base/image"):
        forget_images(tiny)
        damage(find_blob(tiny, layer), how)
        ended = build_again(tiny, digest)
        assert built(ended) == {layer: _DAMAGED if how == "flipped" else _GONE}
        assert tiny.run_image("app") == "hello from /app\n"
        assert ("were damaged, and are removed" in ended.text) is (how == "flipped")  # else the plan has it
    forget_images(tiny)
    damage(find_blob(tiny, "base/image"), how)
    assert tiny.build("tools").built().keys() == {"base/image", "tools/write", "tools/link"}
    assert tiny.run_image("tools", "cat", "/opt/tools/copy") == "of the recipe\nsweet\n"
    assert unsound(tiny) == []


@pytest.mark.parametrize("how", _HOW)
def test_damaged_downloads_are_fetched_again(tiny: Tiny, how: str) -> None:
    digest = tiny.build("app").report["digest"]
    find_blob(tiny, "deps/bulk").unlink()
    damage(find_file(tiny, "bulk-*.whl"), how)
    ended = build_again(tiny, digest, "--no-import")
    assert ended.built() == {"deps/bulk": _GONE}
    assert ended.report["bytes"]["fetched"] > 100_000
    message = r"the cached bulk-1.0-py3-none-any.whl was damaged, and is removed( \(and 1 more\))?; planning again"
    assert bool(re.search(message, ended.text)) is (how != "deleted")


def test_download_deleted_between_plan_and_use_is_fetched_again(tiny: Tiny) -> None:
    """Another build deletes a damaged download before it fetches it again, so for a while there is none."""
    digest = tiny.build("app").report["digest"]
    find_blob(tiny, "deps/bulk").unlink()
    with tiny.after(_TAKE_AWAY.format(file=str(find_file(tiny, "bulk-*.whl")))):
        ended = tiny.build("app", "--no-import")
    assert ended.report["digest"] == digest
    assert ended.built() == {"deps/bulk": _GONE}
    assert "bulk 1.0: the cached bulk-1.0-py3-none-any.whl is gone; planning again" in ended.text
    assert tiny.left_over() == []


def test_download_that_cannot_be_fetched_again_is_reported(tiny: Tiny) -> None:
    tiny.build("app")
    find_blob(tiny, "deps/bulk").unlink()
    damage(find_file(tiny, "bulk-*.whl"), "flipped")
    (tiny.folder / "links/bulk-1.0-py3-none-any.whl").unlink()
    message = tiny.refuse("app", "--no-import", code=1)
    assert "no index and no find-links has bulk==1.0" in message
    assert not find_blob(tiny, "deps/bulk").exists()
    assert tiny.left_over() == []


@pytest.mark.parametrize("how", _HOW)
def test_damaged_blobs_are_rebuilt_before_a_push(tiny: Tiny, registry: str, how: str) -> None:
    tiny.write("stages/app/app/main.sh", f"echo {tiny.folder.name}\n")  # a layer that the registry has not seen
    digest = tiny.build("app").report["digest"]
    damage(find_blob(tiny, "app/app"), how)
    name = f"{registry}/damaged/{how}:1"
    ended = build_again(tiny, digest, "--push", name)
    assert built(ended) == {"app/app": _DAMAGED if how == "flipped" else _GONE}
    tiny.tool("podman", "pull", "--quiet", name)
    assert tiny.tool("podman", "run", "--rm", "--network=none", name) == f"{tiny.folder.name}\n"
