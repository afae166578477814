"""zstd:chunked: the tar as it was, one frame a file, and a table that names exactly what the tar has."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from buildkit.layers.tar.blob_stream import BlobStream
from buildkit.layers.tar.decompress import inflate
from buildkit.layers.tar.member import Compression, PackedLayer
from buildkit.layers.tar.toc import Toc, find_toc
from tests.imagestore.tars import cut, entry, folder, make_sparse_tar, make_tar

_FILE = os.urandom(30_000) + b"".join(b"%d\n" % number for number in range(100_000))  # several blocks of zstd
_TAR = make_tar(
    folder("opt/"),
    entry("opt/a", b"hello\n"),
    entry("opt/größe", _FILE, mode=0o755, pax_headers={"SCHILY.xattr.user.x": "v"}),
    entry("opt/empty"),
    entry("opt/link", type=tarfile.SYMTYPE, linkname="a"),
    entry("opt/hard", type=tarfile.LNKTYPE, linkname="opt/a"),
    entry("opt/late", b"x" * 600, mtime=1_000_000_000.25, uid=5, gid=6),
)


def _pack(tar: bytes, path: Path, seed: int | None = None) -> PackedLayer:
    with path.open("wb") as out, BlobStream(out, Compression.CHUNKED) as stream:
        for block in cut(tar, seed):
            stream.write(block)
        return stream.finish()


def _table(path: Path, toc: Toc) -> dict[str, Any]:
    table = path.read_bytes()[toc.table.offset :][: toc.table.size]
    assert hashlib.sha256(table).hexdigest() == toc.digest.hex
    text = zstandard.ZstdDecompressor().decompress(table)
    assert len(text) == toc.table.unpacked
    value: dict[str, Any] = json.loads(text)
    return value


def test_blob_unpacks_to_the_tar_and_does_not_depend_on_how_it_came(tmp_path: Path) -> None:
    packed = _pack(_TAR, tmp_path / "blob")
    assert b"".join(inflate(tmp_path / "blob", Compression.CHUNKED)) == _TAR
    assert b"".join(inflate(tmp_path / "blob", Compression.ZSTD)) == _TAR
    assert packed.compression is Compression.CHUNKED
    for seed in (1, 2):
        assert _pack(_TAR, tmp_path / "again", seed) == packed
    assert find_toc(tmp_path / "blob") == packed.toc


def test_table_gives_each_file_a_frame_of_its_own(tmp_path: Path) -> None:
    packed = _pack(_TAR, tmp_path / "blob")
    assert packed.toc is not None
    table = _table(tmp_path / "blob", packed.toc)
    entries = {one["name"]: one for one in table["entries"]}
    assert [one["type"] for one in table["entries"]] == ["dir", "reg", "reg", "reg", "symlink", "hardlink", "reg"]
    large = entries["opt/größe"]
    frame = (tmp_path / "blob").read_bytes()[large["offset"] : large["endOffset"]]
    assert zstandard.ZstdDecompressor().decompress(frame) == _FILE
    assert large["digest"] == f"sha256:{hashlib.sha256(_FILE).hexdigest()}"
    assert large["xattrs"] == {"user.x": "dg=="}
    assert entries["opt/late"]["modtime"] == "2001-09-09T01:46:40.25Z"
    assert "digest" not in entries["opt/empty"]
    split = (tmp_path / "blob").read_bytes()[packed.toc.tar_split.offset :][: packed.toc.tar_split.size]
    assert table["tarSplitDigest"] == f"sha256:{hashlib.sha256(split).hexdigest()}"
    lines = zstandard.ZstdDecompressor().stream_reader(split).read()
    assert len(lines) == packed.toc.tar_split.unpacked
    assert [json.loads(line)["position"] for line in lines.splitlines()] == list(range(lines.count(b"\n")))


@pytest.mark.parametrize(
    "tar",
    [
        pytest.param(make_tar(entry("a", b"1"), entry("./a", b"2")), id="a path that comes twice"),
        pytest.param(make_tar(entry("\udcff", b"1"), form=tarfile.GNU_FORMAT), id="a name that is not UTF-8"),
        pytest.param(make_sparse_tar("1.0", 2), id="a sparse file"),
        pytest.param(make_tar(entry("a", b"1", pax_headers={"atime": "1.5"})), id="a time of access"),
    ],
)
def test_tar_that_the_table_cannot_describe_becomes_plain_zstd(tmp_path: Path, tar: bytes) -> None:
    packed = _pack(tar, tmp_path / "blob")
    assert (packed.compression, packed.toc, find_toc(tmp_path / "blob")) == (Compression.ZSTD, None, None)
    assert b"".join(inflate(tmp_path / "blob", Compression.ZSTD)) == tar


def test_place_of_a_table_survives_its_text_and_refuses_others(tmp_path: Path) -> None:
    toc = _pack(_TAR, tmp_path / "blob").toc
    assert toc is not None
    assert Toc.parse(toc.to_text()) == toc
    for text in ("", "1:2:3", toc.to_text() + ":1", toc.to_text().replace(":", ":-", 1)):
        with pytest.raises(ValueError):
            Toc.parse(text)


def test_empty_and_cut_files_have_no_table(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    _pack(_TAR, path)
    whole = path.read_bytes()
    for data in (b"", whole[:-1], io.BytesIO(whole).read(100)):
        path.write_bytes(data)
        assert find_toc(path) is None
