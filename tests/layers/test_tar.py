"""Layers are tars that every reader understands, with the same bytes on every host."""

import hashlib
import io
import locale
import os
import sys
import tarfile
import time
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.digest import DiffId, Digest, FileHash
from buildkit.errors import BuildError, CollisionError, MismatchError, WheelError
from buildkit.layers.tar.blob_stream import BLOCK
from buildkit.layers.tar.header import FILE, render_header
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.writer import write_layer
from buildkit.tools.process import Command, run


def file(path, data=b"", **more):
    return Member(path=path, size=len(data), content=lambda: iter((data,)), **more)


def owned(path, data, owner):
    return Member(path=path, size=len(data), content=lambda: iter((data,)), wheel=owner)


def link(path, target):
    return Member(path=path, kind="symlink", target=target)


def layer(*members, compression=Compression.NONE):
    out = io.BytesIO()
    return write_layer(members, out, compression), out.getvalue()


SMALL = (
    file("app/main.py", b"print('hello')\n"),
    file("app/bin/run", b"#!/bin/sh\n", executable=True),
    link("app/latest", "main.py"),
    Member(path="app/empty", kind="directory"),
    file("app/grüße.txt", "grüße".encode()),
    file("app/" + "deep/" * 30 + "er.txt", b"x" * 600),
)
DIFF_ID = "sha256:f262e4960fa2bfb8edb44b1763388d145719a2df5de6f11b6b355c33c392dd0f"
DIGESTS = {
    Compression.NONE: "sha256:f262e4960fa2bfb8edb44b1763388d145719a2df5de6f11b6b355c33c392dd0f",
    Compression.GZIP: "sha256:34f79d28ac8b853f3d76a392a084eb82e540d2a7f63695549fc5a1729380cc0f",
    Compression.ZSTD: "sha256:a7c8cbc4850a0b8541a9d8e02d33e0d18facd7201cbbc2e4fc5569f297838682",
    Compression.CHUNKED: "sha256:4b016dfccd5dfae8133b1017e996e3c24d844148e25d37186e2caa210255b0db",
}


@pytest.mark.parametrize("compression", Compression)
def test_layer_has_golden_digests(compression):
    packed, stored = layer(*SMALL, compression=compression)
    assert str(packed.diff_id) == DIFF_ID
    assert str(packed.digest) == DIGESTS[compression]
    assert packed.digest == Digest.of(stored)
    assert packed.size == len(stored)


def test_stored_blob_unpacks_to_the_tar_of_the_diff_id():
    _, plain = layer(*SMALL)
    packed, gzipped = layer(*SMALL, compression=Compression.GZIP)
    _, zstd = layer(*SMALL, compression=Compression.ZSTD)
    import gzip

    assert gzip.decompress(gzipped) == plain
    assert zstandard.ZstdDecompressor().decompressobj().decompress(zstd) == plain
    assert packed.diff_id == DiffId.of(plain)
    assert packed.unpacked == len(plain)
    assert gzipped[4:8] == bytes(4), "a gzip header holds a time"


def test_layer_does_not_depend_on_umask_time_zone_locale_or_directory(monkeypatch, tmp_path):
    before = layer(*SMALL)[1]
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o077)
    old = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "C")
        assert layer(*SMALL)[1] == before
    finally:
        locale.setlocale(locale.LC_ALL, old)
        os.umask(umask)
        monkeypatch.undo()
        time.tzset()


def test_modes_owners_and_times_are_fixed():
    with tarfile.open(fileobj=io.BytesIO(layer(*SMALL)[1])) as tar:
        entries = tar.getmembers()
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries} == {(0, 0, "", "", 0)}
    assert {(e.type, e.mode) for e in entries if e.name in {"app/main.py", "app/bin/run", "app/bin"}} == {
        (tarfile.REGTYPE, 0o644),
        (tarfile.REGTYPE, 0o755),
        (tarfile.DIRTYPE, 0o755),
    }


def test_parents_are_written_once_and_before_their_members():
    names = names_of(layer(file("a/b/one", b"1"), file("a/b/two", b"2"), file("a/c/three", b"3"))[1])
    assert names == ["a", "a/b", "a/b/one", "a/b/two", "a/c", "a/c/three"]


def test_extended_headers_are_written_only_if_needed():
    plain = layer(file("a/" + "b" * 98, b""), file("c" * 99 + "/" + "d" * 100, b""))[1]
    assert b"PaxHeader" not in plain
    for needs in (file("ü"), file("e" * 101), file("f" * 160 + "/g"), link("h", "t" * 101), link("i", "ü")):
        assert b"PaxHeader" in layer(needs)[1]


def test_a_file_of_eight_gib_has_its_size_in_an_extended_header():
    assert b"PaxHeader" not in render_header("big", FILE, size=8**11 - 1)
    entry = tarfile.TarFile(fileobj=io.BytesIO(render_header("big", FILE, size=8**11))).next()
    assert entry is not None
    assert entry.size == 8**11


def test_contents_name_files_and_links_but_no_directories():
    packed, _ = layer(file("b", b"data"), link("a", "b"), Member(path="d", kind="directory"))
    assert packed.contents == (("a", "-> b"), ("b", hashlib.sha256(b"data").hexdigest()))


def test_the_same_path_with_the_same_bytes_is_written_once():
    packed, tar = layer(
        owned("x/LICENSE", b"MIT", "a.whl"), owned("x/LICENSE", b"MIT", "b.whl"), link("l", "x"), link("l", "x")
    )
    assert names_of(tar) == ["x", "x/LICENSE", "l"]
    assert len(packed.contents) == 2


def test_the_same_path_with_other_bytes_is_a_collision_that_names_both():
    with pytest.raises(CollisionError, match=r"x/LICENSE belongs to a\.whl and b\.whl"):
        layer(owned("x/LICENSE", b"MIT", "a.whl"), owned("x/LICENSE", b"BSD", "b.whl"))


@pytest.mark.parametrize(
    "members",
    [
        (owned("x", b"", "a.whl"), owned("x/y", b"", "b.whl")),
        (owned("x/y", b"", "a.whl"), owned("x", b"", "b.whl")),
        (owned("x", b"", "a.whl"), link("x", "y")),
        (link("x", "y"), owned("x/y", b"", "b.whl")),
        (link("x", "y"), link("x", "z")),
        (owned("x", b"", "a.whl"), Member(path="x", kind="directory")),
    ],
)
def test_file_and_directory_at_one_path_are_a_collision(members):
    with pytest.raises(CollisionError, match="x belongs to"):
        layer(*members)


def test_content_is_verified_against_size_and_hash():
    right = FileHash.of(b"data")
    layer(file("f", b"data", sha256=right))
    with pytest.raises(MismatchError, match="f has SHA-256"):
        layer(file("f", b"date", sha256=right))
    with pytest.raises(MismatchError, match="ended after 4 of 5 bytes"):
        layer(Member(path="f", size=5, content=lambda: iter((b"data",))))
    with pytest.raises(MismatchError, match="more than the 3 bytes"):
        layer(Member(path="f", size=3, content=lambda: iter((b"data",))))
    with pytest.raises(WheelError, match=r"a\.whl: f has SHA-256"):
        layer(Member(path="f", size=4, content=lambda: iter((b"date",)), sha256=right, wheel="a.whl"))


def test_a_second_copy_is_verified_too():
    wrong = Member(path="f", size=1, content=lambda: iter((b"x",)), sha256=FileHash.of(b"y"), wheel="b.whl")
    with pytest.raises(WheelError, match=r"b\.whl"):
        layer(owned("f", b"x", "a.whl"), wrong)


@pytest.mark.parametrize("path", ["a/..\n/../b", "/etc/passwd", "../x", "a/../b", "a//b", "", "a/.", "a\0b", "a/"])
def test_a_path_outside_the_image_is_refused(path):
    with pytest.raises(BuildError, match="has a") as caught:
        layer(file(path))
    assert "no layer can hold it" in caught.value.hint


@pytest.mark.parametrize("compression", Compression)
def test_full_disk_raises_its_own_error(compression):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    many = (file(f"f{number}", os.urandom(BLOCK)) for number in range(40))
    with pytest.raises(OSError, match="No space left"):
        write_layer(many, Full(), compression)


def test_error_of_a_member_leaves_no_thread():
    import threading

    def broken() -> Iterator[Member]:
        yield file("a", bytes(BLOCK))
        raise MismatchError("stop")

    before = threading.active_count()
    with pytest.raises(MismatchError, match="stop"):
        write_layer(broken(), io.BytesIO(), Compression.ZSTD)
    assert threading.active_count() == before


def test_progress_counts_the_bytes_of_tar():
    counts = []
    packed = write_layer(
        [file("a", bytes(3 * BLOCK)), file("b", bytes(BLOCK))], io.BytesIO(), Compression.ZSTD, progress=counts.append
    )
    assert counts == sorted(counts)
    assert len(counts) > 2
    assert counts[-1] == packed.unpacked


def test_zstd_bytes_do_not_depend_on_the_number_of_processors():
    data = b"".join(hashlib.sha256(str(number % 50_000).encode()).digest() for number in range(400_000))
    _, ours = layer(file("f", data), compression=Compression.ZSTD)
    tar = layer(file("f", data))[1]
    for workers in (1, 2, 4):
        compressor = zstandard.ZstdCompressor(level=3, threads=workers).compressobj()
        parts = [compressor.compress(tar[at : at + 77_777]) for at in range(0, len(tar), 77_777)]
        assert b"".join([*parts, compressor.flush()]) == ours


NAME = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=63).filter(
    lambda name: name not in {".", ".."} and not name.startswith(".wh.")
)
PATH = st.lists(NAME, min_size=1, max_size=5).map("/".join)
TREE = st.dictionaries(PATH, st.tuples(st.binary(max_size=2000), st.booleans()), max_size=12).filter(
    lambda tree: not any(f"{path}/" in {q[: len(path) + 1] for q in tree} for path in tree)
)


@settings(deadline=None, max_examples=200)
@given(tree=TREE)
def test_tarfile_reads_back_any_members(tree):
    members = [file(path, data, executable=executable) for path, (data, executable) in tree.items()]
    packed, stored = layer(*members)
    with tarfile.open(fileobj=io.BytesIO(stored)) as tar:
        found = {entry.name: (tar.extractfile(entry).read(), entry.mode == 0o755) for entry in tar if entry.isfile()}
    assert found == tree
    assert dict(packed.contents) == {
        path: hashlib.sha256(data).hexdigest() + " +x" * executable for path, (data, executable) in tree.items()
    }


PACK_A_GIGABYTE = """
import re, sys
from pathlib import Path
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.writer import write_layer
chunk = bytes(range(256)) * 4096
big = Member(path="big", size=len(chunk) * 1024, content=lambda: (chunk for _ in range(1024)))
with Path(sys.argv[1]).open("wb") as out:
    write_layer([big], out, Compression(sys.argv[2]))
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.tools
@pytest.mark.parametrize("compression", Compression)
def test_memory_stays_under_200_mb_whatever_the_size(tmp_path, compression):
    argv = (sys.executable, "-c", PACK_A_GIGABYTE, os.devnull, compression.value)
    assert int(run(Command(argv=argv)).text) < 200


@pytest.mark.tools
def test_gnu_tar_reads_the_layer(tmp_path):
    (tmp_path / "layer.tar").write_bytes(layer(*SMALL)[1])
    listed = run(
        Command(
            argv=("tar", "--numeric-owner", "--utc", "-tvf", str(tmp_path / "layer.tar")), env={"LC_ALL": "C.UTF-8"}
        )
    )
    assert not listed.stderr
    run(Command(argv=("tar", "-xf", str(tmp_path / "layer.tar"), "-C", str(tmp_path))))
    assert (tmp_path / "app/grüße.txt").read_text() == "grüße"
    assert (tmp_path / SMALL[-1].path).read_bytes() == b"x" * 600
    assert (tmp_path / "app/latest").readlink().name == "main.py"


def names_of(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return opened.getnames()
