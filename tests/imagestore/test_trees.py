"""Tars become trees and tar-split files, and these become the same tar again."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from buildkit.errors import BuildError, DamagedError
from buildkit.imagestore.image_store import ImageStore
from buildkit.layers.tar.blob_stream import TarPiece
from buildkit.layers.tar.header import END, FILE, render_header
from buildkit.layers.tar.member import Compression, Member
from buildkit.layers.tar.parser import LayerMember
from buildkit.layers.tar.writer import write_layer
from tests.imagestore.tars import Entry, add_layer, entry, files_of, folder, make_sparse_tar, make_tar, read

ROOT = os.geteuid() == 0
_LONG = "/".join(["a-long-name-of-a-folder" * 3] * 5)
_SEVERAL = (
    folder("./"),
    folder("opt", mtime=7),
    entry("opt/file", b"hello", mode=0o640, mtime=12345),
    entry("opt/empty", mode=0o755),
    entry("opt/big", os.urandom(3_000_000)),
    entry("opt/link", type=tarfile.SYMTYPE, linkname="file", mtime=99),
    entry("opt/hard", type=tarfile.LNKTYPE, linkname="opt/file"),
    entry("opt/pipe", type=tarfile.FIFOTYPE),
    entry(f"{_LONG}/file", b"deep"),
    entry("implicit/parent/ünï", "ä".encode()),
    entry("opt/raw-\udcff", b"not UTF-8"),
)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore.open(tmp_path / "store")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_tree_and_tar_split_are_the_tar(store: ImageStore, form: int, seed: int | None) -> None:
    tar = make_tar(*_SEVERAL, form=form)
    diff_id = add_layer(store, tar, seed=seed)
    assert read(store, diff_id) == tar
    tree = store.trees.path(diff_id)
    assert (tree / _LONG / "file").read_bytes() == b"deep"
    assert (tree / "opt/link").readlink() == Path("file")
    assert (tree / "opt/hard").samefile(tree / "opt/file")
    assert stat.S_ISFIFO((tree / "opt/pipe").stat().st_mode)
    found = (tree / "opt/file").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o640, 12345)
    assert ((tree / "opt").stat().st_mtime, (tree / "opt/link").lstat().st_mtime) == (7, 99)
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755
    assert files_of(tree).keys() >= {"opt/raw-\udcff", "implicit/parent/ünï"}
    assert list((store.folder / "tmp").iterdir()) == []


def test_tree_of_members_that_we_write_is_the_tree_of_their_tar(tmp_path: Path) -> None:
    contents = {"opt/empty": b"", 'opt/"quoted"\\': b"q" * 512, f"{_LONG}/ünï": b"deep"}
    contents["opt/big"] = os.urandom(3_000_000)
    members = [
        *(Member(path=path, size=len(data), content=partial(_once, data)) for path, data in contents.items()),
        Member(path="opt/run", size=1, content=partial(_once, b"1"), executable=True),
        Member(path="opt/link", kind="symlink", target=f"../{_LONG}/ünï"),
        Member(path="var/empty", kind="directory"),
    ]
    said, read_again = (ImageStore.open(tmp_path / name) for name in ("said", "read"))
    tar = io.BytesIO()
    with said.writing_tree(foreign_owners=False) as sink:
        packed = write_layer(members, None, Compression.NONE, tee=sink.take)
        sink.keep(packed.diff_id, packed.unpacked)
    assert write_layer(members, tar, Compression.NONE) == packed
    assert add_layer(read_again, tar.getvalue()) == packed.diff_id
    assert said.find_alteration(packed.diff_id) == ""
    assert read(said, packed.diff_id) == tar.getvalue()
    assert said.trees.facts(packed.diff_id) == read_again.trees.facts(packed.diff_id)
    splits = [gzip.decompress(store.trees.tar_split_path(packed.diff_id).read_bytes()) for store in (said, read_again)]
    assert splits[0] == splits[1]


def _once(data: bytes) -> Iterator[bytes]:
    yield data


def test_member_that_begins_within_another_is_refused(store: ImageStore) -> None:
    file, end = LayerMember(b"etc/file", FILE, 0o644, size=5), TarPiece(END)
    for pieces in ([TarPiece(render_header("etc/file", FILE, size=5), file)] * 2, [end, TarPiece(bytes(512), file)]):
        with store.writing_tree(foreign_owners=False) as sink, pytest.raises(BuildError, match="begins where none can"):
            sink.take(pieces)


def test_modes_do_not_depend_on_the_umask(store: ImageStore) -> None:
    before = os.umask(0o077)
    try:
        diff_id = add_layer(store, make_tar(folder("a"), entry("a/x", b"1", mode=0o755), entry("b/y", mode=0o4755)))
    finally:
        os.umask(before)
    tree = store.trees.path(diff_id)
    modes = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in (".", "a", "a/x", "b", "b/y")}
    assert modes == {".": 0o755, "a": 0o755, "a/x": 0o755, "b": 0o755, "b/y": 0o4755}


@pytest.mark.skipif(not ROOT, reason="only root has a folder of any group")
def test_groups_do_not_depend_on_the_folder_above(store: ImageStore) -> None:
    os.chown(store.folder / "tmp", -1, 4242)
    (store.folder / "tmp").chmod(0o2700)
    tree = store.trees.path(add_layer(store, make_tar(folder("a"), entry("a/x", b"1"), entry("y"))))
    assert [(tree / name).stat().st_gid for name in (".", "a", "a/x", "y")] == [0] * 4


def test_same_tree_written_twice_is_one(store: ImageStore) -> None:
    tar = make_tar(entry("x", b"1"))
    assert not store.has_tree(add_layer(ImageStore.open(store.folder.with_name("other")), tar))
    add_layer(store, tar)
    assert store.has_tree(add_layer(store, tar))
    assert len(list((store.folder / "trees").iterdir())) == 3


def test_tree_that_is_not_kept_leaves_nothing(store: ImageStore) -> None:
    with store.writing_tree(foreign_owners=False) as sink:
        sink.take([TarPiece(make_tar(entry("a/b", b"x" * 5000))[:3000])])
        assert len(list((store.folder / "tmp").glob("*/tree/a/b"))) == 1
    assert [*(store.folder / "tmp").iterdir(), *(store.folder / "trees").iterdir()] == []


def test_altered_missing_and_longer_files_are_named(store: ImageStore) -> None:
    diff_id = add_layer(store, make_tar(entry("etc/passwd", b"root")))
    path = store.trees.path(diff_id) / "etc/passwd"
    for data, why in ((b"r00t", "has other content"), (b"roots", "has other content"), (b"ro", "is 2 bytes too short")):
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=f"etc/passwd {why}") as caught:
            read(store, diff_id)
        assert caught.value.digests == (diff_id.hex,)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(DamagedError, match="etc/passwd cannot be read"):
        read(store, diff_id)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([entry("../x", b"1")], "climbs out"),
        ([entry("a/../../x", b"1")], "climbs out"),
        ([entry("x", b"1"), entry("./x", b"2")], "comes twice"),
        ([entry("x", b"1"), folder("x")], "is a folder, and also something else"),
        ([entry("x", b"1"), entry("x/y", b"2")], "is a folder, and also something else"),
        ([entry("h", type=tarfile.LNKTYPE, linkname="/etc/passwd")], "which the layer does not have"),
        ([entry("h", type=tarfile.LNKTYPE, linkname="../etc/passwd")], "climbs out"),
        ([entry("l", type=tarfile.SYMTYPE, linkname="l"), entry("l/x", b"1")], "too many links"),
        ([entry("a/.wh..", b"")], "deletes no file"),
        ([entry("a/.wh...", b"")], "deletes no file"),
        ([entry("n" * 256, b"1")], "cannot be made"),
        ([entry("a/" * 3000 + "x", b"1")], "longer than a path"),
        ([entry("x", type=b"Z")], "not a kind of member"),
        ([entry("x", b"1", uid=2**32)], "owner 4294967296"),
        ([entry("x", b"1", gid=2**32 - 1)], "owner 4294967295"),
    ],
)
def test_hostile_members_are_refused_and_leave_nothing(store: ImageStore, members: list[Entry], why: str) -> None:
    with pytest.raises(BuildError, match=why):
        add_layer(store, make_tar(*members))
    assert [*(store.folder / "tmp").iterdir(), *(store.folder / "trees").iterdir()] == []


def test_links_of_folders_lead_within_the_tree(store: ImageStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tar = make_tar(
        folder("usr/lib"),
        entry("lib", type=tarfile.SYMTYPE, linkname="usr/lib"),
        entry("lib/x", b"inside"),
        entry("evil", type=tarfile.SYMTYPE, linkname=str(outside)),
        entry("evil/y", b"caught"),
        entry("up", type=tarfile.SYMTYPE, linkname="../../../../../.."),
        entry("up/z", b"top"),
    )
    diff_id = add_layer(store, tar)
    tree = store.trees.path(diff_id)
    assert (tree / "usr/lib/x").read_bytes() == b"inside"
    assert (tree / "z").read_bytes() == b"top"
    assert (tree / str(outside)[1:] / "y").read_bytes() == b"caught"
    assert list(outside.iterdir()) == []
    assert read(store, diff_id) == tar


@pytest.mark.parametrize("size", [0, 100, 512, 700, 1024, 1536])
def test_cut_tars_are_refused_or_whole(store: ImageStore, size: int) -> None:
    tar = make_tar(entry("x", b"1" * 600))[:size]
    if size in (0, 1536):
        assert read(store, add_layer(store, tar)) == tar
        return
    with pytest.raises(BuildError, match="it ends within a member"):
        add_layer(store, tar)


def test_whiteouts_become_those_of_overlayfs(store: ImageStore) -> None:
    tar = make_tar(
        entry("etc/.wh.gone"), folder("opt"), entry("opt/.wh..wh..opq"), entry("opt/new", b"1"),
        entry(".wh.replaced"), entry("replaced/x", b"2"), entry("kept", b"3"), entry(".wh.kept"),
        folder("late"), entry(".wh.late"), entry(".wh.whole"), entry("whole/.wh.part"), entry(".wh..wh.plnk", b"aufs"),
    )  # fmt: skip
    diff_id = add_layer(store, tar)
    tree = store.trees.path(diff_id)
    for gone in ("etc/gone", "whole"):
        found = (tree / gone).lstat()
        assert (stat.S_ISCHR(found.st_mode), found.st_rdev) == (True, 0)
    name = "trusted.overlay.opaque" if ROOT else "user.overlay.opaque"
    assert [os.getxattr(tree / path, name) for path in ("opt", "replaced", "late")] == [b"y"] * 3
    assert files_of(tree) == {"opt/new": b"1", "replaced/x": b"2", "kept": b"3"}
    assert read(store, diff_id) == tar


def test_attributes_are_set_except_those_of_overlayfs(store: ImageStore) -> None:
    pax = {"SCHILY.xattr.user.mine": "yes", "SCHILY.xattr.user.overlay.redirect": "/etc", "mtime": "1.5"}
    tar = make_tar(entry("x", b"1", pax_headers=pax))
    diff_id = add_layer(store, tar)
    path = store.trees.path(diff_id) / "x"
    assert [name for name in os.listxattr(path) if "selinux" not in name] == ["user.mine"]
    assert path.stat().st_mtime_ns == 1_500_000_000
    assert read(store, diff_id) == tar


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_are_sparse(store: ImageStore, form: str) -> None:
    tar = make_sparse_tar(form)
    assert len(tar) < 1_000_000
    content = bytearray(10_000_000)
    for at in range(40):
        content[at * 131072 : at * 131072 + 4096] = (b"%04d" % at) * 1024
    for seed in (None, 3):
        diff_id = add_layer(store, tar, seed=seed)
        found = store.trees.path(diff_id) / "source"
        assert found.read_bytes() == content
        assert found.stat().st_blocks * 512 < 1_000_000
        assert read(store, diff_id) == tar
        store.trees.remove([diff_id])
        assert list((store.folder / "trees").iterdir()) == []


def test_foreign_owners_without_a_namespace_are_refused_for_a_user(store: ImageStore) -> None:
    tar = make_tar(entry("x", b"1", uid=7, gid=8))
    if not ROOT:
        with pytest.raises(BuildError, match="belongs to 7:8"):
            add_layer(store, tar)
        return
    found = (store.trees.path(add_layer(store, tar)) / "x").stat()
    assert (found.st_uid, found.st_gid) == (7, 8)
