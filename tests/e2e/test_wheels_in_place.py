"""Wheels of a folder are packed where they are; one that changes or goes is noticed, and the folder stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.survival import build_again, find_blob, left_behind, unsound
from tests.e2e.tinyproject import Tiny
from tests.packageindex import PackageIndexes, serve_indexes

pytestmark = [pytest.mark.tools, pytest.mark.usefixtures("imports")]

BULK = "bulk-1.0-py3-none-any.whl"
_GONE = "its blob is missing from the cache"
# what happens once, when the layer of this wheel is written, but not kept yet
_MEANWHILE = """from pathlib import Path
from buildkit.build import layer_writer
whole, wheel = layer_writer.write_layer, Path({wheel!r})
def write_layer(members, *args, **named):
    members = list(members)
    written = whole(members, *args, **named)
    if any(member.path.endswith("bulk/data.bin") for member in members):
        layer_writer.write_layer = whole
        {act}
    return written
layer_writer.write_layer = write_layer
"""


@pytest.fixture
def index(tiny: Tiny) -> Iterator[PackageIndexes]:
    """An index that has the wheel of the heavy layer."""
    with serve_indexes() as server:
        server.files["simple/bulk"] = {BULK: (tiny.folder / "links" / BULK).read_bytes()}
        yield server


def folder(tiny: Tiny) -> dict[str, tuple[bytes, int, int]]:
    """Return bytes, mode and time of change of every wheel of the user."""
    found = ((path, path.stat()) for path in (tiny.folder / "links").iterdir())
    return {path.name: (path.read_bytes(), status.st_mode, status.st_ctime_ns) for path, status in found}


def test_wheels_of_a_folder_are_not_copied(tiny: Tiny) -> None:
    before = folder(tiny)
    ended = tiny.build("app")
    links = [*tiny.cache.glob("files/*/*")]
    assert {path.resolve() for path in links} == {tiny.folder / "links" / path.name for path in links}
    assert len(links) == 4
    assert sum(path.lstat().st_size for path in links) < 1000
    assert ended.report["bytes"]["fetched"] > 100_000
    assert tiny.run_image("app") == "hello from /app\n"
    assert tiny.run("cache", "verify").code == 0
    assert tiny.build("app").built() == {}
    assert folder(tiny) == before


def test_nothing_that_cleans_the_cache_touches_the_folder(tiny: Tiny) -> None:
    tiny.build("app")
    before = folder(tiny)
    for arguments in (("verify",), ("gc", "--max-size", "1"), ("gc", "--keep-days", "0")):
        assert tiny.run("cache", *arguments).code == 0
    tiny.replace("stages/app/stage.toml", '"deps", ', "")
    shutil.rmtree(tiny.project / "stages/deps")
    assert tiny.run("cache", "gc", "--keep-days", "0").code == 0
    assert [*tiny.cache.glob("files/*")] == []
    assert folder(tiny) == before


def test_changed_wheel_is_noticed_and_fetched_from_an_index(tiny: Tiny, index: PackageIndexes) -> None:
    digest = tiny.build("app").report["digest"]
    find_blob(tiny, "deps/bulk").unlink()
    wheel = tiny.folder / "links" / BULK
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"!")
    mine = folder(tiny)
    tiny.env |= {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": index.url()}
    ended = build_again(tiny, digest, "--no-import")
    assert ended.built() == {"deps/bulk": _GONE}
    assert f"bulk 1.0: {wheel} has other bytes by now, and is not used" in ended.text
    (copy,) = tiny.cache.glob(f"files/*/{BULK}")
    assert not copy.is_symlink()
    assert folder(tiny) == mine


def test_changed_wheel_without_an_alternative_fails_the_build(tiny: Tiny) -> None:
    tiny.build("app")
    find_blob(tiny, "deps/bulk").unlink()
    wheel = tiny.folder / "links" / BULK
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"!")
    message = tiny.refuse("app", "--no-import", code=1)
    assert f"bulk==1.0 ({BULK}): the lock says" in message
    assert f"but {wheel} has" in message
    assert not find_blob(tiny, "deps/bulk").exists()


def test_folder_that_is_gone_matters_once_a_wheel_is_packed_again(tiny: Tiny, index: PackageIndexes) -> None:
    digest = tiny.build("app").report["digest"]
    (tiny.folder / "links").rename(tiny.folder / "moved")
    assert tiny.build("app").built() == {}
    find_blob(tiny, "deps/bulk").unlink()
    assert f"no index and no find-links has bulk==1.0 ({BULK})" in tiny.refuse("app", "--no-import", code=1)
    moved = tiny.build("app", "--no-import", PIP_FIND_LINKS=str(tiny.folder / "moved"))
    assert (moved.report["digest"], moved.built()) == (digest, {"deps/bulk": _GONE})
    find_blob(tiny, "deps/bulk").unlink()
    (tiny.folder / "moved").rename(tiny.folder / "elsewhere")
    tiny.env |= {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": index.url()}
    assert tiny.build("app", "--no-import").report["digest"] == digest
    assert {path.name for path in tiny.cache.glob("files/*/*") if not path.is_symlink()} == {BULK}


@pytest.mark.parametrize(
    "act",
    [
        "data = wheel.read_bytes(); wheel.write_bytes(b'other'); wheel.write_bytes(data)",
        "other = wheel.with_name('other'); other.write_bytes(wheel.read_bytes()); other.rename(wheel)",
        "import os; os.utime(wheel)",
    ],
)
def test_layer_of_a_wheel_that_changed_while_it_was_packed_is_packed_again(tiny: Tiny, act: str) -> None:
    digest = tiny.build("app").report["digest"]
    find_blob(tiny, "deps/bulk").unlink()
    wheel = tiny.folder / "links" / BULK
    with tiny.after(_MEANWHILE.format(wheel=str(wheel), act=act)):
        ended = tiny.build("app", "--no-import")
    assert f"{BULK}: {wheel} changed while it was read; planning again" in ended.text
    assert ended.report["digest"] == digest
    assert unsound(tiny) == left_behind(tiny) == []


@pytest.mark.parametrize("act", ["wheel.write_bytes(b'other')", "wheel.unlink()"])
def test_layer_of_a_wheel_that_changed_for_good_is_not_kept(tiny: Tiny, act: str) -> None:
    tiny.build("app")
    find_blob(tiny, "deps/bulk").unlink()
    wheel = tiny.folder / "links" / BULK
    with tiny.after(_MEANWHILE.format(wheel=str(wheel), act=act)):
        ended = tiny.run("build-app", "--no-import")
    assert ended.code == 1
    assert (
        f"{BULK}: {wheel} {'is gone' if 'unlink' in act else 'has other bytes by now, and is not used'}" in ended.text
    )
    assert not find_blob(tiny, "deps/bulk").exists()
    assert tiny.left_over() == []
