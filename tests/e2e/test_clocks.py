"""Files that keep their times, and clocks that are set back, in real builds of a tiny project."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny

pytestmark = pytest.mark.tools

DAY = 86_400
MAIN, WORDS = "stages/app/app/main.sh", "stages/app/app/words.txt"
AHEAD = """
import os, time
ahead, now, now_ns = float(os.environ["AHEAD"]), time.time, time.time_ns
time.time = lambda: now() + ahead
time.time_ns = lambda: now_ns() + int(ahead * 1e9)
"""


def rewrite(path: Path, old: str, new: str) -> None:
    """Change a file in place; its size and time stay."""
    before = path.stat()
    assert len(old) == len(new)
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert [after.st_ino, after.st_size, after.st_mtime_ns] == [before.st_ino, before.st_size, before.st_mtime_ns]


def link(path: Path, old: str, new: str) -> None:
    """Put a hard link to another file of the same size and time in its place."""
    other = path.parent.parent / "other"
    other.write_text(path.read_text().replace(old, new))
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    path.unlink()
    path.hardlink_to(other)


def test_file_changed_after_a_build_with_the_same_size_and_time_is_noticed(tiny: Tiny) -> None:
    tiny.build("app")
    rewrite(tiny.project / MAIN, "echo", "true")
    assert list(tiny.build("app").built()) == ["app/app"]
    assert tiny.run_image("app") == ""
    text = (tiny.project / WORDS).read_text()
    link(tiny.project / WORDS, text[:3], "XYZ")
    assert list(tiny.build("app").built()) == ["app/app"]
    assert tiny.run_image("app", "cat", "/app/words.txt") == "XYZ" + text[3:]
    rewrite(tiny.project / "models/greeter/weights.txt", "w", "W")
    assert list(tiny.build("app", "--changed-models").built()) == ["models/greeter"]
    assert "W" in tiny.run_image("app", "cat", "/models/greeter/weights.txt")
    assert tiny.build("app", "--changed-models").built() == {}


@pytest.fixture
def ahead(tiny: Tiny) -> dict[str, str]:
    """An environment in which our clock is a day ahead of the file system's."""
    (tiny.folder / "ahead").mkdir()
    (tiny.folder / "ahead/sitecustomize.py").write_text(AHEAD)
    paths = [str(tiny.folder / "ahead"), *filter(None, [tiny.env.get("PYTHONPATH")])]
    return {"AHEAD": str(DAY), "PYTHONPATH": os.pathsep.join(paths)}


def ask(tiny: Tiny, query: str) -> float:
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db:
        return float(db.execute(query).fetchone()[0])


def test_build_after_the_clock_is_set_back_a_day_rebuilds_only_changes(tiny: Tiny, ahead: dict[str, str]) -> None:
    tiny.build("app", **ahead)
    hashed, used = "SELECT max(hashed_ns) / 1e9 FROM files", "SELECT min(used) FROM layers"
    assert min(ask(tiny, hashed), ask(tiny, used)) > time.time() + DAY / 2
    rewrite(tiny.project / MAIN, "echo", "true")
    assert list(tiny.build("app").built()) == ["app/app"]
    assert ask(tiny, "SELECT max(used) FROM layers WHERE name != 'app/app'") <= time.time()  # two have that name
    again = tiny.build("app")
    assert again.built() == {}
    assert again.report["bytes"] == {"fetched": 0, "built": 0, "imported": 0, "pushed": 0}
    assert tiny.run_image("app") == ""
    assert tiny.left_over() == []
