"""A ledger written while the clock was a day ahead does no harm once the clock is set back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.layers.tar.member import Compression
from buildkit.oci.blob import Blob, LayerResult
from buildkit.store.ledger import Ledger
from tests.ledgers import LayerId

KEY, SHA = Key.of(b"a"), FileHash.of(b"a")
BLOB = Blob(digest=Digest.of(b"1"), diff_id=DiffId.of(b"2"), size=3, unpacked=4, compression=Compression.ZSTD)
DAY = 86_400.0
TOUCHED: dict[str, Callable[[Ledger], None]] = {
    "layers": lambda ledger: ledger.layers.touch([KEY]),
    "wheels": lambda ledger: ledger.wheels.touch([KEY]),
    "downloads": lambda ledger: ledger.downloads.touch([SHA]),
}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """One of everything, made tomorrow."""
    ahead = time.time() + DAY
    made = Ledger(tmp_path / "ledger.sqlite")
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: ahead)
        made.add_layer(LayerId(KEY, "wheels", "n", "{}"), LayerResult(blobs=(BLOB,), seconds=2.0), [])
        made.wheels.add(KEY, "{}", "a.whl", SHA, 1.0)
        made.downloads.add(SHA, "a.whl", 3, 1.0)
    yield made
    made.close()


@pytest.mark.parametrize("table", TOUCHED)
def test_touch_corrects_a_last_use_in_the_future(ledger: Ledger, table: str) -> None:
    assert ledger.database.select_one(f"SELECT used FROM {table}", ())[0] > time.time() + DAY / 2
    TOUCHED[table](ledger)
    assert ledger.database.select_one(f"SELECT used FROM {table}", ())[0] <= time.time()


def test_rows_from_the_future_are_still_found(ledger: Ledger) -> None:
    assert ledger.layers.find([KEY])[KEY].blobs == (BLOB,)
    assert ledger.wheels.find(KEY) == ("a.whl", SHA)
    assert [seconds for _, _, seconds in ledger.layers.build_times()] == [2.0]
