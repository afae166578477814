"""The stat index against a model of file systems and clocks: it never returns an outdated hash."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkit.digest import FileHash
from buildkit.store import stat_index as statindex
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex

MS = 1_000_000
SECOND = 1000 * MS
DAY = 86_400 * SECOND
# what stamps are rounded down to: by nothing, by kernels' ticks, by exFAT, by ext3 and many servers, by FAT
GRAINS = st.sampled_from([1, 1 * MS, 4 * MS, 10 * MS, SECOND, 2 * SECOND])
INODES = count(1)


@dataclass
class Node:
    """A file as the file system keeps it; every content has the same size."""

    content: bytes
    mtime: int = 0
    ctime: int = 0
    inode: int = field(default_factory=lambda: next(INODES))


class Model:
    """One path on a file system with clock and grain, and what may be done to it and to the clock."""

    def __init__(self, grain: int) -> None:
        self.grain = grain
        self.now = 1_000_000 * SECOND + 123_456_789
        self._fresh = count()
        self.node = self._make()
        self.spare = self._make()

    # what StatIndex sees

    def stat(self) -> SimpleNamespace:
        node = self.node
        return SimpleNamespace(
            st_dev=1, st_ino=node.inode, st_size=4, st_mtime_ns=node.mtime, st_ctime_ns=node.ctime, st_mode=0o100644
        )

    def open(self, _mode: str, buffering: int) -> BinaryIO:
        descriptor = os.memfd_create("content")
        os.pwrite(descriptor, self.node.content, 0)
        return cast("BinaryIO", os.fdopen(descriptor, "rb", buffering))

    # what happens

    def write(self) -> None:
        self.node.content = self._bytes()
        self.node.mtime = self.node.ctime = self._stamp()

    def write_and_set_back(self) -> None:
        """As an editor that keeps the time, or ``cp -p`` over it."""
        mtime = self.node.mtime
        self.write()
        self.node.mtime = mtime

    def rename_over(self) -> None:
        """A new file of the same size and time."""
        mtime = self.node.mtime
        self.node = self._make()
        self.node.mtime = mtime

    def link_over(self) -> None:
        """A hard link to another file, which this path was once, and will be again."""
        self.spare.mtime = self.node.mtime
        self.node, self.spare = self.spare, self.node
        self.node.ctime = self._stamp()

    def _make(self) -> Node:
        return Node(content=self._bytes(), mtime=self._stamp(), ctime=self._stamp())

    def _bytes(self) -> bytes:
        return b"%04d" % next(self._fresh)

    def _stamp(self) -> int:
        return self.now - self.now % self.grain


WAITS = st.sampled_from([0, 1, MS, 5 * MS, 21 * MS, SECOND, 2 * SECOND + 1, DAY]).map(lambda span: ("wait", span))
CHANGES = st.sampled_from(["write", "write_and_set_back", "rename_over", "link_over"]).map(lambda name: (name, 0))
LOOKS = st.sampled_from(["look", "look at all"]).map(lambda name: (name, 0))
BACK = st.sampled_from([0, MS, SECOND, DAY]).map(lambda span: ("set back", span))  # 0: to when the file was written


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    made = Ledger(tmp_path_factory.mktemp("model") / "ledger.sqlite")
    yield made
    made.close()


def run(ledger: Ledger, grain: int, happenings: list[tuple[str, int]]) -> None:
    model, index = Model(grain), StatIndex(ledger)

    def look() -> None:
        found, _ = index.hash(cast("Path", model))
        assert found == FileHash.of(model.node.content)

    def look_at_all() -> None:
        found, _ = index.hash_all(Path("folder"), ["file"])["file"]
        assert found == FileHash.of(model.node.content)

    with pytest.MonkeyPatch.context() as patch:
        seen = {"fstat": lambda _descriptor: model.stat(), "lstat": lambda _path: model.stat()}
        patch.setattr(statindex, "os", SimpleNamespace(**seen, read=os.read, sched_getaffinity=lambda _process: {0}))
        patch.setattr(statindex, "Path", lambda _path: model)
        patch.setattr(statindex, "_MANY", 1)  # so that a listing, which is usually of many, is of one
        patch.setattr(time, "time_ns", lambda: model.now)
        for name, span in happenings:
            if name == "wait":
                model.now += span
            elif name == "set back":
                model.now = model.now - span if span else min(model.now, model.node.ctime)
                look()  # a build in between: without one nothing tells that the clock has been here before
            elif name == "look":
                look()
            elif name == "look at all":
                look_at_all()
            else:
                getattr(model, name)()
        look_at_all()
        look()


@settings(max_examples=300)
@given(GRAINS, st.lists(st.one_of(WAITS, CHANGES, LOOKS), max_size=12))
def test_index_never_returns_an_outdated_hash(ledger: Ledger, grain: int, happenings: list[tuple[str, int]]) -> None:
    run(ledger, grain, happenings)


@settings(max_examples=300)
@example(1, [("wait", SECOND), ("look", 0), ("set back", 0), ("write", 0), ("wait", DAY)])
@example(1, [("wait", SECOND), *[("look at all", 0)] * 2, ("set back", 0), ("write", 0), ("wait", DAY)])
@given(GRAINS, st.lists(st.one_of(WAITS, CHANGES, LOOKS, BACK), max_size=12))
def test_index_never_returns_an_outdated_hash_if_the_clock_is_set_back(
    ledger: Ledger, grain: int, happenings: list[tuple[str, int]]
) -> None:
    run(ledger, grain, happenings)
