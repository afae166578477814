"""A session that is a fork does as one in a process of its own, and leaves nothing to the next."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.forked import run_forked, starts_alike
from tests.e2e.tinyproject import Tiny

OWN = {"PYTHONHASHSEED": "1"}  # an interpreter reads it when it starts


@pytest.mark.parametrize("words", [("stages",), ("plan", "app"), ("build-none",), ("cache", "gc", "--keep-days", "x")])
def test_fork_writes_and_ends_as_a_process_does(tiny: Tiny, words: tuple[str, ...]) -> None:
    assert not starts_alike(tiny.env | OWN, tiny.env)
    forked, own = tiny.run(*words), tiny.run(*words, **OWN)
    assert forked.text
    assert (forked.code, forked.text) == (own.code, own.text)


def test_fork_has_its_own_environment(tiny: Tiny, tmp_path: Path) -> None:
    assert tiny.run("cache", "ls", BUILDKIT_CACHE=str(tmp_path / "other")).code == 0
    assert (tmp_path / "other/ledger.sqlite").exists()
    assert not tiny.cache.exists()
    assert tiny.run("cache", "ls").code == 0
    assert tiny.cache.exists()


def test_fork_that_does_not_end_is_killed(tiny: Tiny) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_forked((str(tiny.project), "stages"), tiny.folder, tiny.env, seconds=0)
