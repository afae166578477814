"""The ledger's key: made once, by one of many processes, and used only if nobody else can have read it."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.plan.spec import Kind
from buildkit.store.ledger_key import LedgerKey, ensure_ledger_key, key_file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state/buildkit.key"
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(path))
    return path


def test_key_is_made_for_the_user_alone_and_stays(path: Path) -> None:
    before = os.umask(0)
    try:
        first = ensure_ledger_key()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert len(path.read_text().strip()) == 64
    assert ensure_ledger_key() == first
    path.unlink()
    assert ensure_ledger_key().secret != first.secret
    assert first.secret.hex() not in repr(first)


def _make(queue: multiprocessing.Queue[bytes], barrier: multiprocessing.synchronize.Barrier) -> None:
    barrier.wait()
    queue.put(ensure_ledger_key().secret)


def test_processes_that_start_at_once_agree_on_one_key(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue, barrier = context.Queue(), context.Barrier(6)
    processes = [context.Process(target=_make, args=(queue, barrier)) for _ in range(6)]
    for process in processes:
        process.start()
    secrets = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert secrets == {ensure_ledger_key().secret}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_place_of_the_key_is_the_users_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BUILDKIT_LEDGER_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert key_file() == tmp_path / ".local/state/xoe-buildkit/ledger.key"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert key_file() == tmp_path / ".local/state/xoe-buildkit/ledger.key"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert key_file() == tmp_path / "state/xoe-buildkit/ledger.key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_key_that_others_can_reach_is_refused(path: Path, mode: int) -> None:
    ensure_ledger_key()
    path.chmod(mode)
    with pytest.raises(BuildError, match="others may read or write the ledger's key") as caught:
        ensure_ledger_key()
    assert f"rm {path}" in caught.value.hint


@pytest.mark.parametrize("content", ["", "a" * 31, f"{'a' * 31}\n\n"])
def test_short_key_is_refused(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(BuildError, match="shorter than 32 characters"):
        ensure_ledger_key()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_key_of_another_user_is_refused(path: Path) -> None:
    ensure_ledger_key()
    os.chown(path, 12345, 0)
    with pytest.raises(BuildError, match="belongs to user 12345") as caught:
        ensure_ledger_key()
    assert "BUILDKIT_LEDGER_KEY" in caught.value.hint


def test_key_that_cannot_be_written_is_reported_with_a_hint(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(BuildError, match="the ledger's key cannot be used: ") as caught:
        ensure_ledger_key()
    assert "BUILDKIT_LEDGER_KEY" in caught.value.hint


def test_sums_differ_by_key_table_and_place_of_values() -> None:
    key, other = (LedgerKey(secret=secret * 32, made_ns=0) for secret in (b"a", b"b"))
    rows = [
        ("t", "a", "b"),
        ("u", "a", "b"),
        ("t", "a\0b"),
        ("t", "a\0", "b"),
        ("t", "a", "\0b"),
        ("t", "ab", ""),
        ("t", "a", b"b"),
    ]
    assert len({key.sum_of(*row) for row in rows} | {other.sum_of(*row) for row in rows}) == 2 * len(rows)
    assert key.sum_of("t", Kind.ROOT, 1.0) == key.sum_of("t", "root", 1.0), "as SQLite gives it back"


def test_sealed_bytes_are_read_with_their_key_in_their_row_alone() -> None:
    key, other = (LedgerKey(secret=secret * 32, made_ns=0) for secret in (b"a", b"b"))
    sealed = key.seal("t", "k", b"data")
    assert key.unseal("t", "k", sealed) == b"data"
    assert key.unseal("t", "l", sealed) is other.unseal("t", "k", sealed) is key.unseal("u", "k", sealed) is None
    assert key.unseal("t", "k", sealed[:-1]) is key.unseal("t", "k", b"data") is key.unseal("t", "k", "text") is None
    assert key.seal("t", "k", b"") == b""
