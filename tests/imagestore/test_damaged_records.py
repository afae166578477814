"""Records of the image store that hold something else than what was written."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from buildkit.imagestore.storage_lock import read_records
from buildkit.imagestore.tar_split import read_tar_split
from buildkit.imagestore.tree_facts import TreeFacts

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "line", [DEEP, b'{"type": 1, "name": "a", "size": 1e999, "payload": ""}', b"{}", b"5", b"\xff"]
)
def test_a_damaged_tar_split_file_is_told(line: bytes) -> None:
    with pytest.raises(ValueError):
        list(read_tar_split(io.BytesIO(gzip.compress(line + b"\n"))))


@pytest.mark.parametrize("data", [DEEP, b"{}", b"[]", b"5"])
def test_damaged_facts_and_records_are_told(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        TreeFacts.from_json(data)
    (tmp_path / "layers.json").write_bytes(data.replace(b"[]", b"[1]"))
    with pytest.raises(ValueError):
        read_records(tmp_path / "layers.json")
