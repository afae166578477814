"""One process has the environment of a checkout; what it holds ends with it, unless containers use it still."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.develop.dev_home import KEPT, find_home, find_runner, hold_home, remove_runs
from buildkit.errors import BuildError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_second_process_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    assert find_runner(find_home(tmp_path)) == 0
    with hold_home(tmp_path) as run:
        assert run.is_dir()
        assert find_runner(find_home(tmp_path)) == os.getpid()
        with pytest.raises(BuildError, match=rf"runs already \(process {os.getpid()}\)"), hold_home(tmp_path):
            raise AssertionError
        assert run.is_dir(), "the first is not disturbed"
    assert not run.exists()
    assert find_runner(find_home(tmp_path)) == 0


def test_other_checkouts_have_homes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    assert find_home(tmp_path) != find_home(tmp_path / "other")
    assert find_home(tmp_path / "link") == find_home(tmp_path / "other")


def test_kept_run_stays_until_it_is_replaced_and_a_killed_one_does_not(tmp_path: Path) -> None:
    killed = find_home(tmp_path) / "run-killed"
    with hold_home(tmp_path) as first:
        killed.mkdir()
        (first / KEPT).touch()
    with hold_home(tmp_path) as second:
        assert first.is_dir(), "detached containers use it until they are replaced"
        assert not killed.exists()
        remove_runs(second.parent, but=second)
        assert not first.exists()
        assert second.is_dir()
