"""Keys of whole projects, from text on the disk: how it is written does not matter; what it says does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from projectdisk import Disk, list_all
from smallproject import Small, projects
from tomlstyles import Style

from buildkit.cache.ledger import Ledger
from buildkit.engine import checkout

SEEDS = st.integers(0, 1 << 32)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    made = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    yield made
    made.close()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, ledger: Ledger) -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkout, "list_files", list_all)
        yield Disk(tmp_path_factory.mktemp("disk") / "project", ledger)


@settings(max_examples=60)
@given(projects(), SEEDS)
def test_how_a_project_is_written_does_not_matter(disk: Disk, small: Small, seed: int) -> None:
    plain, other = disk.compose(small), disk.compose(small, Style(seed))
    assert other.keys == plain.keys
    assert other.images == plain.images
