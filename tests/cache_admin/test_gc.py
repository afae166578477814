"""gc on a made-up cache: what it deletes, keeps and reports; killed at any point it leaves a consistent cache."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit.cache_admin import gc
from buildkit.cache_admin.inventory import InventoryItem, ItemState
from buildkit.cache_admin.stored_images import Leftovers
from buildkit.cli.cache import parse_size
from buildkit.errors import BuildError, ToolError
from buildkit.imagestore.image_store import ImageStore
from buildkit.store.maintenance import LedgerMaintenance
from buildkit.tools import storage as storage_tool
from buildkit.tools.storage import StoredImage
from tests.cache_admin.stocked import DAY, Stocked
from tests.imagestore.tars import add_layer, diff_id_of, entry, make_tar

Ask = Callable[..., Any]
Read = Callable[..., tuple[str, str]]


def names(answer: dict[str, Any]) -> list[str]:
    return [one["name"] for one in answer["dropped"]]


def test_gc_evicts_unneeded_stale_items_and_records_tombstones(stocked: Stocked, ask: Ask) -> None:
    stocked.root("base", b"needed", days=400)
    old, new = stocked.layer("app/app", b"old"), stocked.layer("app/app", b"newer", days=13)
    ledger = ask("du")["ledger"]
    answer = ask("gc")
    assert [(one["name"], one["key"]) for one in answer["dropped"]] == [("app/app", str(old))]
    assert [stocked.blob(data).exists() for data in (b"old", b"newer", b"needed")] == [False, True, True]
    assert stocked.tombstones() == {"app/app": "evicted by gc"}
    assert {row[0] for row in stocked.sql("SELECT key FROM layers")} >= {old.hex, new.hex}, "rows outlive blobs"
    assert (answer["freed"], answer["needed"], answer["left"]) == (3, 6, 6 + 5 + ledger)
    assert names(ask("gc", "--keep-days", "12")) == ["app/app"]
    assert names(ask("gc", "--keep-days", "0")) == []


def test_first_to_go_under_a_limit_are_blobs_of_layers_that_have_trees(stocked: Stocked, ask: Ask) -> None:
    store = ImageStore.open(stocked.cache.with_name("store"))
    tar = make_tar(entry("opt/app", b"x" * 5000))
    add_layer(store, tar)
    key = stocked.pushed("app/app", tar, b"compressed " * 9, days=1)
    stocked.layer("cheap", b"cheap " * 99, seconds=0.001)
    for stays in ((), ("--keep-days", "200")):
        limit = str(ask("du")["size"] + len(tar) - 1)
        assert ask("gc", "--max-size", limit, *stays, "--dry-run")["freed"] == (0 if stays else 99)
    (blob,) = ask("gc", "--max-size", limit)["dropped"]
    assert (blob["name"], blob["kind"], blob["key"]) == ("app/app", "blob", str(key))
    assert [stocked.blob(data).exists() for data in (b"compressed " * 9, b"cheap " * 99)] == [False, True]
    assert store.has_tree(diff_id_of(tar))
    assert stocked.tombstones() == {}, "the layer is here"
    states = {one["name"]: one["state"] for one in ask("ls")["things"]}
    assert states == {"app/app": "present", "cheap": "present"}


def test_needed_layer_loses_only_blobs_that_can_be_made_again() -> None:
    item = InventoryItem(
        kind="wheels", name="a", hash="0", paths=("sha256/1", "trees/1", "sha256/2", "trees/2"),
        files={"sha256/1": 5, "trees/1": 10, "sha256/2": 6}, seconds=3.0, built=1.0, used=2.0, times=1,
        stages=("app",), state=ItemState.PRESENT,
    )  # fmt: skip
    rest, copies = item.split_copies()
    assert (rest.files, rest.as_cache_item().needed) == ({"trees/1": 10, "sha256/2": 6}, True)
    assert (copies.files, copies.as_cache_item().needed, copies.as_cache_item().seconds) == ({"sha256/1": 5}, False, 0)
    assert replace(item, kind="image").split_copies() == (replace(item, kind="image"),)
    assert rest.split_copies() == (rest,)


def test_gc_dry_run_reports_the_same_and_changes_nothing(stocked: Stocked, ask: Ask, read: Read) -> None:
    stocked.root("base", b"needed")
    stocked.layer("app/app", b"old")
    stocked.wheel("fast", b"wheel")
    stocked.download("x.whl", b"download")
    stocked.orphan(b"orphan")
    (stocked.cache / "tmp/1-2").write_bytes(b"half")
    ask("ls")
    before = stocked.snapshot()
    dry = ask("gc", "--dry-run")
    table, _ = read("gc", "--dry-run")
    assert stocked.snapshot() == before
    wet = ask("gc")
    assert dry | {"dry_run": False} == wet
    assert "would drop 5 items (26 B)" in table
    assert sorted(line.split()[1] for line in table.splitlines()[1:-1]) == [
        "blob",
        "download",
        "files",
        "temporary",
        "wheel",
    ]
    assert sorted(stocked.snapshot()) == ["ledger.sqlite", "locks/in-use", f"sha256/{stocked.blob(b'needed').name}"]


def test_gc_under_a_limit_evicts_the_cheapest_first(stocked: Stocked, ask: Ask, read: Read) -> None:
    stocked.root("base", b"n" * 1000)
    stocked.layer("a/cheap", b"c" * 1000, seconds=0.1, days=1)
    stocked.layer("a/dear", b"d" * 1000, seconds=100)
    stocked.download("middle.whl", b"m" * 1000, seconds=2)
    size = ask("du")["size"]
    assert names(ask("gc", "--max-size", str(size))) == []
    assert names(ask("gc", "--max-size", str(size - 1))) == ["a/cheap"]
    assert names(ask("gc", "--max-size", f"{(size - 1001) / 1000:.3f}kB")) == ["middle.whl"]
    _, err = read("gc", "--max-size", "10B")
    assert "are left, more than 10 B: what remains is needed by the stages (1.0 kB)" in err
    assert stocked.blob(b"n" * 1000).exists()
    assert not stocked.blob(b"d" * 1000).exists()


def test_gc_under_a_limit_keeps_recent_items_if_keep_days_is_set(stocked: Stocked, ask: Ask) -> None:
    stocked.layer("a/new", b"new", seconds=0.1, days=1)
    stocked.layer("a/old", b"old", seconds=100)
    assert names(ask("gc", "--max-size", "1", "--keep-days", "2")) == ["a/old"]
    assert names(ask("gc", "--max-size", "1")) == ["a/new"]


def test_untimed_download_costs_as_much_as_others_per_byte(stocked: Stocked, ask: Ask) -> None:
    stocked.download("known.whl", b"k" * 1000, seconds=3)
    stocked.download("unknown.whl", b"u" * 500, seconds=None)
    listed = {one["name"]: one["seconds"] for one in ask("ls")["things"]}
    assert listed == {"known.whl": 3.0, "unknown.whl": 1.5}


def test_gc_keeps_a_blob_shared_with_a_needed_layer(stocked: Stocked, ask: Ask) -> None:
    stocked.root("base", b"debian", b"python 3.13")
    stocked.root("gone", b"debian", b"python 3.12", days=100)
    assert names(ask("gc")) == ["gone/image"]
    assert stocked.blob(b"debian").exists()
    assert not stocked.blob(b"python 3.12").exists()


def test_gc_keeps_what_any_stage_needs(stocked: Stocked, ask: Ask) -> None:
    stocked.root("other", b"other", days=400)
    stocked.stage("other")
    assert names(ask("gc", "--keep-days", "0")) == []
    (stocked.project / "stages/other/stage.toml").unlink()
    assert names(ask("gc", "--keep-days", "0")) == ["other/image"]


def test_gc_with_an_invalid_definition_deletes_nothing(stocked: Stocked, read: Read) -> None:
    stocked.layer("app/app", b"old")
    (stocked.project / "stages/base/stage.toml").write_text('summary = "x"\nform = "y"\n')
    _, err = read("gc", code=2)
    assert "did you mean `from`" in err
    assert stocked.blob(b"old").exists()
    out, err = read("ls")
    assert "what the stages need is unknown" in err
    assert "needed by ?" in out


def test_gc_deletes_temporaries_locks_and_orphans_but_not_foreign_files(stocked: Stocked, ask: Ask) -> None:
    stocked.root("base", b"needed")
    (stocked.cache / "tmp/dir-x/y").mkdir(parents=True)
    (stocked.cache / "tmp/dir-x/y/z").write_bytes(b"half")
    (stocked.cache / f"locks/{'a' * 64}").touch()
    part = stocked.download("x.whl", b"x", days=0).with_name(".x.whl.1-2.part")
    part.write_bytes(b"beginning")
    stocked.orphan(b"orphan")
    (stocked.cache / "sha256/README").write_text("mine")
    (stocked.cache / "notes.txt").write_text("mine too")
    answer = ask("gc")
    assert sorted(one["size"] for one in answer["trash"]) == [4, 6, 9]
    assert not part.exists()
    assert sorted(path.name for path in (stocked.cache / "locks").iterdir()) == ["in-use"]
    assert list((stocked.cache / "tmp").iterdir()) == []
    assert (stocked.cache / "sha256/README").exists()
    assert (stocked.cache / "notes.txt").exists()
    assert stocked.blob(b"needed").exists()


def test_gc_deletes_a_truncated_blob_as_orphan(stocked: Stocked, ask: Ask) -> None:
    stocked.root("base", b"needed")
    stocked.blob(b"needed").write_bytes(b"need")
    assert [one["size"] for one in ask("gc")["trash"]] == [4]
    assert [one["state"] for one in ask("ls")["things"]] == ["missing"]


def test_gc_with_the_clock_set_back_deletes_nothing_and_warns(
    stocked: Stocked, read: Read, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.layer("app/app", b"one", days=0)
    before = stocked.sql("SELECT used FROM layers")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1000 * DAY)
    out, err = read("gc", "--keep-days", "1")
    assert "is this host's clock right?" in err
    assert "nothing to drop" in out
    assert stocked.sql("SELECT used FROM layers") == before, "the clock is wrong, not the rows"


def test_gc_caps_a_last_use_in_the_future(stocked: Stocked, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/one", "a/two", "a/three"):
        stocked.layer(name, name.encode(), days=1)
    stocked.layer("a/future", b"future", days=-1000)
    assert names(ask("gc")) == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 20 * DAY)
    assert sorted(names(ask("gc"))) == ["a/future", "a/one", "a/three", "a/two"]


def test_gc_evicts_layers_of_equal_bytes_together(stocked: Stocked, ask: Ask) -> None:
    stocked.layer("a/x", b"same")
    stocked.layer("b/x", b"same", days=1)
    assert names(ask("gc")) == []
    assert sorted(names(ask("gc", "--keep-days", "0"))) == ["a/x", "b/x"]
    assert stocked.tombstones() == {"a/x": "evicted by gc", "b/x": "evicted by gc"}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5000", 5000),
        ("10B", 10),
        ("1kB", 1000),
        ("10GB", 10**10),
        ("10GiB", 10 << 30),
        ("10G", 10 << 30),
        ("1.5 k", 1536),
        ("2m", 2 << 20),
        ("1T", 1 << 40),
    ],
)
def test_parse_size_accepts_decimal_and_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("wrong", ["10Q", "-1", "GB", "1e9", ""])
def test_parse_size_rejects_malformed_sizes(read: Read, wrong: str) -> None:
    _, err = read("gc", f"--max-size={wrong}", code=2)
    assert "must be a size such as 10GB" in err


@pytest.mark.parametrize("wrong", ["-1", "x", "nan", "inf"])
def test_gc_rejects_malformed_days(read: Read, wrong: str) -> None:
    _, err = read("gc", f"--keep-days={wrong}", code=2)
    assert "must be a number of days" in err


def test_missing_or_unknown_request_exits_with_2(stocked: Stocked, read: Read) -> None:
    assert "ls | du | gc | rm | verify | why" in read(code=2)[1]
    assert "invalid choice: 'clean'" in read("clean", code=2)[1]


# what fails on the way

IMAGES = [StoredImage(id=letter * 64, names=(), size=1) for letter in "abc"]


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage with three images to remove: the first goes, a container holds the second, and then it breaks."""

    def refuse_the_third(image: str) -> bool:
        if image == IMAGES[2].id:
            raise ToolError("storage broke")
        return image == IMAGES[0].id

    monkeypatch.setattr(gc, "find_leftovers", lambda *_: Leftovers(images=tuple(IMAGES), names=("localhost/a/b:c",)))
    monkeypatch.setattr(storage_tool, "remove_name", lambda _name: True)
    monkeypatch.setattr(storage_tool, "remove_image", refuse_the_third)


@pytest.mark.usefixtures("storage")
def test_gc_reports_what_it_deleted_if_storage_fails(stocked: Stocked, ask: Ask, read: Read) -> None:
    stocked.layer("app/app", b"old")
    answer = ask("gc", code=1)
    assert names(answer) == ["app/app"]
    assert answer["images"] == [{"id": IMAGES[0].id, "names": []}]
    assert answer["names"] == ["localhost/a/b:c"]
    stocked.layer("app/other", b"older")
    out, err = read("gc", code=1)
    assert "app/other" in out
    assert "dropped 1 item (5 B), 2 images; " in out
    assert "storage broke" in err


def test_gc_reports_what_it_deleted_if_pruning_fails(
    stocked: Stocked, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BuildError("the ledger is locked")

    stocked.layer("app/app", b"old")
    monkeypatch.setattr(LedgerMaintenance, "prune", fail)
    assert names(ask("gc", code=1)) == ["app/app"]


def test_gc_reports_only_deleted_files_if_a_removal_fails(
    stocked: Stocked, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.layer("a/one", b"one")
    stocked.layer("a/two", b"two and", b"more", seconds=100)
    stocked.layer("a/three", b"three", seconds=1000)
    size, unlink = ask("du")["size"], Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == stocked.blob(b"more"):
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    answer = ask("gc", code=1)
    gone = sum(len(data) for data in (b"one", b"two and") if not stocked.blob(data).exists())
    assert stocked.blob(b"three").exists()
    assert answer["dropped"]
    assert {one["name"] for one in answer["dropped"]} <= {"a/one", "a/two"}
    assert answer["freed"] == gone
    assert answer["left"] == size - gone


def test_gc_prints_only_the_error_if_nothing_was_deleted(
    stocked: Stocked, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", "blob")

    stocked.layer("app/app", b"old")
    monkeypatch.setattr(Path, "unlink", fail)
    assert read("gc", code=1)[0] == ""


# killed

_KILLED = """
import os, signal, sys
from pathlib import Path
from buildkit.store.database import Database
from buildkit.cli.guard import guarded
from buildkit.cli.cache import run as run_cache

point, at = sys.argv[2].split(":")
count = 0

def kill_before(kind, name, holds=lambda *_: True):
    old = getattr(kind, name)
    def new(*args, **more):
        global count
        if holds(*args):
            count += 1
            if count == int(at):
                os.kill(os.getpid(), signal.SIGKILL)
        return old(*args, **more)
    setattr(kind, name, new)

match point:
    case "unlink":
        kill_before(Path, "unlink")
    case "commit":
        kill_before(Database, "execute", lambda _, statement, *__: statement == "COMMIT")
    case "checkpoint":
        kill_before(Database, "checkpoint")
    case "vacuum":
        kill_before(Database, "execute", lambda _, statement, *__: statement == "VACUUM")
sys.exit(guarded(lambda: run_cache(Path(sys.argv[1]), ["gc", "--keep-days", "0"])))
"""
_POINTS = [*(f"unlink:{n}" for n in range(1, 8)), "commit:1", "commit:2", "checkpoint:1", "checkpoint:2", "vacuum:1"]


@pytest.fixture
def full(stocked: Stocked) -> Stocked:
    """A cache of which gc removes seven files, and makes the ledger smaller."""
    stocked.root("base", b"needed")
    stocked.layer("a/one", b"one", b"two")
    stocked.layer("a/two", b"three")
    stocked.wheel("fast", b"wheel")
    stocked.download("x.whl", b"download")
    stocked.orphan(b"orphan")
    (stocked.cache / "tmp/1-2").write_bytes(b"half")
    stocked.sql("CREATE TABLE waste (x)")
    stocked.sql("INSERT INTO waste VALUES (zeroblob(3000000))")
    stocked.sql("DROP TABLE waste")
    return stocked


def gc_killed_at(stocked: Stocked, point: str) -> int:
    script = textwrap.dedent(_KILLED)
    done = subprocess.run((sys.executable, "-c", script, str(stocked.project), point), capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def test_uninterrupted_gc_reaches_every_kill_point(full: Stocked, ask: Ask) -> None:
    assert gc_killed_at(full, "unlink:8") == 0, "there is one more file than is killed for"
    assert names(ask("gc", "--keep-days", "0")) == []
    assert (full.cache / "ledger.sqlite").stat().st_size < 1_000_000


@pytest.mark.parametrize("point", _POINTS)
def test_gc_killed_at_any_point_leaves_a_consistent_cache(full: Stocked, ask: Ask, point: str) -> None:
    assert gc_killed_at(full, point) == -9, "it was not killed"
    found = {one["name"]: one["state"] for one in ask("ls")["things"]}
    assert "missing" not in found.values()
    assert found["base/image"] == "present"
    assert ask("verify")["flaws"] == []
    ask("gc", "--keep-days", "0")
    assert sorted(full.snapshot()) == ["ledger.sqlite", "locks/in-use", f"sha256/{full.blob(b'needed').name}"]
    assert set(full.tombstones()) == {"a/one", "a/two", "fast-1.0-py3-none-any.whl"}
    assert ask("verify")["ok"]


def test_gc_on_a_full_disk_records_tombstones_after_deleting(
    stocked: Stocked, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.layer("a/one", b"one")
    record_tombstones, there = LedgerMaintenance.record_tombstones, []

    def record_only_with_room(self: LedgerMaintenance, *arguments: Any) -> None:
        there.append(stocked.blob(b"one").exists())
        if there[-1]:
            raise BuildError("the disk is full")
        record_tombstones(self, *arguments)

    monkeypatch.setattr(LedgerMaintenance, "record_tombstones", record_only_with_room)
    assert names(ask("gc")) == ["a/one"]
    assert there == [True, False]
    assert stocked.tombstones() == {"a/one": "evicted by gc"}


def test_gc_frees_a_really_full_disk(full: Stocked, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        set -e
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin
        cp -a "$BUILDKIT_CACHE" "$1"
        mount -t tmpfs -o size=4m,mode=700 none "$BUILDKIT_CACHE"
        cp -a "$1"/. "$BUILDKIT_CACHE"
        dd if=/dev/zero of="$BUILDKIT_CACHE/filler" bs=1k count=9999 2>/dev/null || true
        "$2" -c 'import sys; from pathlib import Path; from buildkit.cli.cache import run as run_cache
        sys.exit(run_cache(Path(sys.argv[1]), ["gc", "--keep-days", "0"]))' "$3"
        ls "$BUILDKIT_CACHE"/sha256
        """
    )
    argv = ("/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-c", script, "sh")
    where = (str(tmp_path / "copy"), sys.executable, str(full.project))
    done = subprocess.run((*argv, *where), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == full.blob(b"needed").name
    assert "dropped 6 items" in done.stdout
