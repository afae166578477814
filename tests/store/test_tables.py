"""The typed rows of the ledger's tables have the columns that the checksums cover."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit.store.schema import SUMMED
from buildkit.store.tables.builds import BuildRow
from buildkit.store.tables.derivations import DerivationRow
from buildkit.store.tables.downloads import DownloadRow
from buildkit.store.tables.files import FileRow, ListingRow
from buildkit.store.tables.layers import LayerRow
from buildkit.store.tables.natives import NativeRow, StartRow
from buildkit.store.tables.remote_blobs import RemoteBlobRow
from buildkit.store.tables.tombstones import TombstoneRow
from buildkit.store.tables.verdicts import ChecksumRow, VerdictRow
from buildkit.store.tables.wheels import WheelRow

ROWS: dict[str, Any] = {
    "layers": LayerRow,
    "wheels": WheelRow,
    "files": FileRow,
    "listings": ListingRow,
    "downloads": DownloadRow,
    "builds": BuildRow,
    "tombstones": TombstoneRow,
    "remote": RemoteBlobRow,
    "verdicts": VerdictRow,
    "checksums": ChecksumRow,
    "natives": NativeRow,
    "starts": StartRow,
    "derivations": DerivationRow,
}


@pytest.mark.parametrize("table", SUMMED)
def test_row_has_the_summed_columns_in_order(table: str) -> None:
    assert ", ".join(ROWS[table]._fields) == SUMMED[table]
