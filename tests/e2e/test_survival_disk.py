"""A disk that is full at any write: the error names it, partial files do not count, and the next build succeeds."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.survival import acting, copy_wheels, count_acts, left_behind, make_rng, unsound, wipe
from tests.e2e.tinyproject import SessionResult, Tiny, one_error

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk"),
]

_STEP = """summary = "app on a root that a step extends"
from = "app"
[[run]]
name = "write"
script = "echo made > /opt/made"
"""
# Kinds of writes and the message if the disk is full; some level must stop each kind.
_WRITES = {
    "ledger": r"error: \S*/ledger\.sqlite: the (?:disk is full|ledger cannot be used: database or disk is full)",
    "blob": r"pack  \S+: failed: \S*/cache: the disk is full",
    "download": r"fetch  .*: failed: cannot write \S*/files/\S*: the disk is full",
    "pulled image": r"pull  base/image: failed: \S*/cache: the disk is full",
    "skopeo's files": r"importing \S+ failed with exit code 1: the disk is full",
}
_OURS = {"from": "buildkit.build.pipeline"}


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[None]:
    """Mount a small file system; unmount it at the end, with what containers mounted in it."""
    place.mkdir(exist_ok=True)
    subprocess.run(("mount", "-t", "tmpfs", "-o", f"{options},mode=700", "none", str(place)), check=True)
    try:
        yield
    finally:
        mounts = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if f"{one}/".startswith(f"{place}/")), reverse=True):
            subprocess.run(("umount", "--lazy", mount), check=True)


def enlarge(place: Path) -> None:
    subprocess.run(("mount", "-o", "remount,size=300m,nr_inodes=100k", str(place)), check=True)


def expect_full_disk_error(ended: SessionResult) -> None:
    """Assert that the only error names the full disk, with a hint."""
    message = one_error(ended, 1)
    assert "the disk is full" in message or "database or disk is full" in message, ended.text
    assert "free some room" in message.partition("hint:")[2], ended.text


def sound(tiny: Tiny) -> None:
    assert left_behind(tiny) == []
    if (tiny.cache / "ledger.sqlite").exists() and (tiny.cache / "ledger.sqlite").stat().st_size:
        assert unsound(tiny) == []


def test_cache_disk_full_at_any_level_fails_the_build_cleanly(tiny: Tiny) -> None:
    copy_wheels(tiny)
    digest = tiny.build("app").report["digest"]
    outputs = []
    for size in (16, 64, 136, 300, 5100, 5150, 5200, 5250, 5300, 5350, 5400, 9400):  # kB; all of it needs 11000
        wipe(tiny)
        with small_disk(tiny.cache, f"size={size}k"):
            ended = tiny.run("build-app")
            expect_full_disk_error(ended)
            outputs.append(ended.text)
            assert left_behind(tiny) == []  # no partial file is left, or has a final name
            enlarge(tiny.cache)
            assert tiny.build("app").report["digest"] == digest
            sound(tiny)
    for what, words in _WRITES.items():
        assert any(re.search(words, text) for text in outputs), f"no level stopped the {what}: {outputs}"


def test_cache_disk_without_inodes_fails_the_build_cleanly(tiny: Tiny) -> None:
    """Folders and empty files need inodes."""
    for count in (3, 8, 16, 24):
        with small_disk(tiny.cache, f"size=100m,nr_inodes={count}"):
            expect_full_disk_error(tiny.run("build-app"))
            assert left_behind(tiny) == []
            enlarge(tiny.cache)
            tiny.build("app")
            sound(tiny)
        wipe(tiny)


def fill_at_random(tiny: Tiny, place: Path, tries: int) -> None:
    """Fill the disk of ``place`` before a random act of a build; then free it again."""
    rng = make_rng(place.name)
    first: list[SessionResult] = []
    acts = count_acts(tiny, lambda **env: first.append(tiny.build("tools", **env)), **_OURS)
    ends = []
    for _ in range(tries):
        wipe(tiny)
        reset(place)
        with small_disk(place, "size=64m"):
            at, filler = rng.randint(1, acts), place / "filler"
            ended = tiny.run("build-tools", **acting(tiny, at=at, fill=filler, **_OURS))
            print(f"act {at}: exit code {ended.code} {ended.errors}")
            assert filler.exists() or not ended.code, "the build ended before that act"
            if ended.code:
                expect_full_disk_error(ended)
            ends.append(ended.code)
            filler.unlink(missing_ok=True)
            again = tiny.build("tools")
            assert again.report["digest"] == first[0].report["digest"]
            sound(tiny)
            assert tiny.run_image("tools", "cat", "/opt/made") == "made\n"
    assert 1 in ends


def reset(place: Path) -> None:
    """Delete the storage of ``place``, whose records name images on the unmounted disk."""
    if place.name == "graph":
        subprocess.run(("rm", "-rf", str(place), str(place.with_name("run"))), check=True)
        place.with_name("run").mkdir(mode=0o700)


@pytest.mark.parametrize("place", ["cache", "graph"])
def test_disk_full_at_any_write_fails_the_build_cleanly(tiny: Tiny, place: str) -> None:
    tiny.write("stages/tools/stage.toml", _STEP)
    fill_at_random(tiny, tiny.folder / place, tries=5)


def test_storage_disk_full_at_any_level_fails_the_build_cleanly(tiny: Tiny) -> None:
    digest = tiny.build("app").report["digest"]
    place = tiny.folder / "graph"
    for size in (60, 4000, 5150):
        wipe(tiny)
        reset(place)
        with small_disk(place, f"size={size}k"):
            expect_full_disk_error(tiny.run("build-app"))
            assert not [name for name in tiny.images() if name.endswith("app:latest")]
            assert unsound(tiny) == []
            enlarge(place)
            again = tiny.build("app")
            assert again.report["digest"] == digest
            assert again.built() == {}, "layers built before are reused"
            sound(tiny)
            assert tiny.run_image("app") == "hello from /app\n"


def test_step_that_fills_the_disk_fails_the_build_cleanly(tiny: Tiny) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9; do cat /usr/bin/bash /usr/bin/ls; done > /opt/large"
    tiny.write("stages/tools/stage.toml", _STEP.replace("echo made > /opt/made", script))
    tiny.build("app")
    reset(tiny.folder / "graph")
    with small_disk(tiny.folder / "graph", "size=16m"):
        # where a full storage keeps its container, its lease stays, and it is swept later
        expect_full_disk_error(tiny.run("build-tools"))
        assert unsound(tiny) == []
        enlarge(tiny.folder / "graph")
        tiny.build("tools")
        sound(tiny)


def test_report_stays_unchanged_on_a_full_disk(tiny: Tiny) -> None:
    tiny.build("app")
    place = tiny.folder / "reports"
    with small_disk(place, "size=8k"):
        report = place / "report.json"
        report.write_text("the last one")
        ended = tiny.run("build-app", "--json", str(report))
        expect_full_disk_error(ended)
        assert f"{report}: the disk is full" in ended.text
        assert report.read_text() == "the last one"
        assert list(place.iterdir()) == [report]
        enlarge(place)
        tiny.build("app", "--json", str(report))
        assert report.read_text().startswith("{")
    sound(tiny)


def test_lock_on_a_full_disk_leaves_every_lock_unchanged(tiny: Tiny) -> None:
    """The locks are in the checkout, on another disk than the cache."""
    folder = tiny.project / "requirements"
    before = {path.name: path.read_text() for path in folder.iterdir()} | {"app.in": "alpha==1.1\nbeta==1.0\n"}
    with small_disk(folder, "size=24k"):  # pages, of 4 kB: each file has one, and there are six
        for name, text in before.items():
            (folder / name).write_text(text)
        ended = tiny.run("lock")
        message = one_error(ended, 1)
        assert "cannot write the locks: the disk is full" in message
        assert {path.name: path.read_text() for path in folder.iterdir()} == before
        enlarge(folder)
        tiny.lock()
        assert "alpha==1.1" in (folder / "app.txt").read_text()
