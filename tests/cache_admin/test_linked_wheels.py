"""Links to wheels of the user: gc and verify remove links at most, and count what they take on the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cache_admin.stocked import Stocked

Ask = Callable[..., Any]
DATA = b"w" * 5000


def test_link_takes_next_to_nothing(stocked: Stocked, ask: Ask) -> None:
    own, link = stocked.linked("x.whl", DATA)
    size, usage = link.lstat().st_size, ask("du")
    assert usage["kinds"]["download"]["size"] == size == len(str(own))
    assert usage["size"] - usage["ledger"] == size
    (listed,) = ask("ls")["things"]
    assert (listed["name"], listed["size"], listed["state"]) == ("x.whl", size, "present")


def test_gc_removes_the_link_and_leaves_the_file(stocked: Stocked, ask: Ask) -> None:
    own, link = stocked.linked("x.whl", DATA)
    assert ask("gc", "--dry-run")["freed"] == len(str(own))
    answer = ask("gc")
    assert ([one["name"] for one in answer["dropped"]], answer["freed"]) == (["x.whl"], len(str(own)))
    assert not link.parent.exists()
    assert own.read_bytes() == DATA


def test_gc_under_a_limit_leaves_the_file(stocked: Stocked, ask: Ask) -> None:
    own, link = stocked.linked("x.whl", DATA, days=0)
    ask("gc", "--max-size", "1")
    assert not link.is_symlink()
    assert own.read_bytes() == DATA


def test_link_to_a_file_that_is_gone_is_garbage(stocked: Stocked, ask: Ask) -> None:
    own, link = stocked.linked("x.whl", DATA, days=0)
    own.unlink()
    assert ask("ls")["things"] == []
    answer = ask("verify")
    assert (answer["ok"], answer["flaws"]) == (True, [])
    (note,) = answer["notes"]
    assert (note["name"], note["then"]) == (f"files/{link.parent.name}/x.whl", "gc removes it")
    assert note["what"].startswith("a link to a file that is gone (")
    assert [one["path"] for one in ask("gc", "--dry-run")["trash"]] == [note["name"]]
    assert link.is_symlink()
    ask("gc")
    assert not link.parent.exists()


def test_verify_reads_the_file_through_its_link(stocked: Stocked, ask: Ask) -> None:
    own, link = stocked.linked("x.whl", DATA)
    answer = ask("verify")
    assert (answer["ok"], answer["files"], answer["size"]) == (True, 1, len(DATA))
    assert link.resolve() == own


def test_verify_removes_the_link_to_a_changed_file_and_leaves_the_file(stocked: Stocked, ask: Ask) -> None:
    own, link = stocked.linked("x.whl", DATA)
    own.write_bytes(b"another build of it")
    before = own.stat()
    (flaw,) = ask("verify", code=1)["flaws"]
    assert flaw["name"] == "x.whl"
    assert flaw["what"] == f"{own} has other bytes by now"
    assert not link.is_symlink()
    assert (own.read_bytes(), own.stat().st_ctime_ns) == (b"another build of it", before.st_ctime_ns)
    assert ask("verify")["ok"]
