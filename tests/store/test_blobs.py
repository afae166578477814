"""Blobs: a file under its digest is complete; interrupted writes leave nothing."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from buildkit.digest import Digest, FileHash, Key
from buildkit.errors import BuildError, Interrupted
from buildkit.store.blobs import Blobs
from buildkit.store.file_locks import disk_errors_explained, locked_temporary_file

DATA = b"content"
DIGEST = Digest.of(DATA)
KEY = Key.of(b"k")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "deep" / "cache")


def temporary(blobs: Blobs) -> list[str]:
    return sorted(path.name for path in (blobs.folder / "tmp").iterdir())


def put(blobs: Blobs, data: bytes = DATA) -> Path:
    with blobs.writing() as out:
        out.write(data)
        blobs.keep(out, blobs.path(Digest.of(data)))
    return blobs.path(Digest.of(data))


def test_blob_exists_once_it_is_kept(blobs: Blobs) -> None:
    assert not blobs.has(DIGEST, len(DATA))
    path = put(blobs)
    assert path == blobs.folder / "sha256" / DIGEST.hex
    assert path.read_bytes() == DATA
    assert blobs.has(DIGEST, len(DATA))
    assert not blobs.has(DIGEST, len(DATA) + 1)
    assert temporary(blobs) == []


def test_blob_mode_does_not_depend_on_the_umask(blobs: Blobs) -> None:
    before = os.umask(0o077)
    try:
        path = put(blobs)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_blob_gets_its_name_after_its_bytes_are_on_the_disk(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, int]] = []
    real = os.fsync
    path = blobs.path(DIGEST)

    def fsync(descriptor: int) -> None:
        seen.append((path.exists(), os.fstat(descriptor).st_size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put(blobs)
    assert seen == [(False, len(DATA))]


def test_keeping_a_blob_replaces_a_damaged_one(blobs: Blobs) -> None:
    blobs.path(DIGEST).write_bytes(b"cut")
    assert put(blobs).read_bytes() == DATA
    assert put(blobs).read_bytes() == DATA


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), None])
def test_temporary_file_that_is_not_kept_is_removed(blobs: Blobs, error: BaseException | None) -> None:
    def write() -> None:
        with blobs.writing() as out:
            out.write(DATA)
            assert len(temporary(blobs)) == 1
            if error is not None:
                raise error

    if error is None:
        write()
    else:
        with pytest.raises(type(error)):
            write()
    assert temporary(blobs) == []
    assert list((blobs.folder / "sha256").iterdir()) == []


def test_working_folder_is_removed_with_its_content(blobs: Blobs) -> None:
    def work() -> None:
        with blobs.working_folder() as folder:
            assert folder.parent == blobs.folder / "tmp"
            (folder / "x").mkdir()
            (folder / "x" / "y").write_bytes(DATA)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert temporary(blobs) == []


def test_download_path_is_below_its_hash(blobs: Blobs) -> None:
    path = blobs.file_path(FileHash.of(b"x"), "a.whl")
    assert path == blobs.folder / "files" / FileHash.of(b"x").hex / "a.whl"
    assert path.parent.is_dir()
    assert blobs.file_path(FileHash.of(b"x"), "a.whl") == path


def test_full_disk_is_reported_and_leaves_no_file(blobs: Blobs) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full:

        def write() -> None:
            with blobs.writing() as out:
                os.dup2(full.fileno(), out.fileno())  # from here on the kernel answers as on a full disk
                out.write(DATA)
                blobs.keep(out, blobs.path(DIGEST))

        with pytest.raises(BuildError, match=r"cache: the disk is full$") as caught:
            write()
    assert "BUILDKIT_CACHE=/path" in caught.value.hint
    assert not blobs.has(DIGEST, len(DATA))
    assert temporary(blobs) == []


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EDQUOT, "quota is used up"), (errno.EROFS, "file system is read-only")]
)
def test_disk_errors_are_explained(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(BuildError, match=words), disk_errors_explained(tmp_path):
        raise OSError(number, "x")


def test_folder_that_the_user_may_not_write_is_named_with_what_moves_it(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "sha256"))
    with pytest.raises(BuildError, match="sha256: Permission denied") as raised, disk_errors_explained(tmp_path, "X"):
        raise denied
    assert raised.value.hint == "use another folder: X=/path"
    with pytest.raises(PermissionError), disk_errors_explained(tmp_path / "files"):
        raise denied


def test_other_os_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_errors_explained(tmp_path):
        raise OSError(errno.EACCES, "x")


@pytest.mark.parametrize("hours", [0, 48, -48])
def test_sweep_removes_files_of_dead_processes_only(blobs: Blobs, hours: int) -> None:
    """Independent of the times of the files, and so of clocks."""
    then = time.time() - 3600 * hours
    dead, gone = blobs.folder / "tmp/1-1", blobs.folder / "tmp/dir-gone"
    whole = blobs.file_path(FileHash.of(b"w"), "w.whl")
    left = whole.with_name(".w.whl.left.part")
    for path in (dead, whole, left):
        path.write_bytes(DATA)
    gone.mkdir()
    (gone / "x").write_bytes(DATA)
    with (
        blobs.writing() as out,
        blobs.working_folder() as working,
        locked_temporary_file(whole.parent, ".w.whl.", ".part") as download,
    ):
        out.write(DATA)
        out.flush()
        for path in (dead, left, gone, working, out.name, download.name):
            os.utime(path, (then, then))
        Blobs(blobs.folder).sweep_quickly()
        assert temporary(blobs) == sorted([Path(out.name).name, working.name])
        assert left.exists()
        Blobs(blobs.folder).sweep()
        assert temporary(blobs) == sorted([Path(out.name).name, working.name])
        assert sorted(whole.parent.iterdir()) == sorted([Path(download.name), whole])
        blobs.keep(out, blobs.path(DIGEST))
    assert blobs.has(DIGEST, len(DATA))
    assert temporary(blobs) == []
    assert list(whole.parent.iterdir()) == [whole]


def test_file_swept_before_it_is_locked_is_created_again(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    swept: list[list[str]] = []

    def flock(handle: int, kind: int) -> None:
        if kind == fcntl.LOCK_EX and len(swept) in (0, 2):
            swept.append(temporary(blobs))
            Blobs(blobs.folder).sweep()
            swept.append(temporary(blobs))
        real(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert put(blobs).read_bytes() == DATA
    with blobs.working_folder() as folder:
        assert temporary(blobs) == [folder.name]
    assert [len(names) for names in swept] == [1, 0, 1, 0]
    assert temporary(blobs) == []


def test_drop_damaged_removes_damaged_blobs(blobs: Blobs) -> None:
    sound, damaged = put(blobs), put(blobs, b"other")
    damaged.write_bytes(b"OTHER")
    asked = [DIGEST, Digest.of(b"other"), Digest.of(b"not there")]
    assert blobs.drop_damaged(asked) == (Digest.of(b"other"),)
    assert sound.exists()
    assert not damaged.exists()
    assert blobs.drop_damaged(asked) == ()


def test_drop_damaged_keeps_a_blob_that_was_rebuilt_meanwhile(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(blobs)
    path.write_bytes(b"damaged")
    read = hashlib.file_digest

    def read_slowly(*arguments: Any) -> Any:
        found = read(*arguments)
        path.unlink()
        put(blobs)
        return found

    monkeypatch.setattr(hashlib, "file_digest", read_slowly)
    assert blobs.drop_damaged([DIGEST]) == ()
    assert path.read_bytes() == DATA


def _write_and_die(folder: Path) -> None:
    with Blobs(folder).writing() as out:
        out.write(DATA)
        out.flush()
        os._exit(0)  # as a process that is killed: nothing is undone


def test_killed_writer_leaves_no_blob_and_its_file_is_swept(blobs: Blobs) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(blobs.folder,))
    child.start()
    child.join(60)
    assert len(temporary(blobs)) == 1
    assert list((blobs.folder / "sha256").iterdir()) == []
    blobs.sweep()
    assert temporary(blobs) == []


def _hold(folder: Path, held: threading.Event, leave: threading.Event) -> None:
    with Blobs(folder).building(KEY, lambda: False):
        held.set()
        leave.wait(60)


def test_build_lock_waits_for_another_process_until_interrupted(blobs: Blobs) -> None:
    context = multiprocessing.get_context("spawn")
    held, leave = context.Event(), context.Event()
    child = context.Process(target=_hold, args=(blobs.folder, held, leave))
    child.start()
    assert held.wait(60)
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(Interrupted), blobs.building(KEY, stopped):
        pytest.fail("two hold one key")
    with blobs.building(Key.of(b"other"), lambda: True):
        pass  # other keys are not held
    threading.Timer(0.1, leave.set).start()
    with blobs.building(KEY, lambda: False):
        assert leave.is_set()
    child.join(60)
    assert child.exitcode == 0


def test_build_lock_excludes_threads_of_one_process(blobs: Blobs) -> None:
    with blobs.building(KEY, lambda: False), pytest.raises(Interrupted), blobs.building(KEY, lambda: True):
        pytest.fail("two hold one key")
    with blobs.building(KEY, lambda: True):
        pass


def test_refused_lock_is_not_mistaken_for_a_busy_one(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="no locks"), blobs.building(KEY, lambda: False):
        pytest.fail("built without a lock")
