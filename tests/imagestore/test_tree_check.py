"""Verifying a tree names what was altered, whatever it is; the next writer replaces it."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.imagestore.image_store import ImageStore
from tests.imagestore.tars import add_layer, diff_id_of, entry, folder, make_tar, read

_CAPABILITY = "security.capability"
_NET, _POWER = (struct.pack("<5I", 0x02000001, 1 << bit, 0, 0, 0) for bit in (10, 21))
_ABLE = {f"SCHILY.xattr.{_CAPABILITY}": _NET.decode("ascii")}
_TAR = make_tar(
    entry("able", b"1", pax_headers=_ABLE),
    folder("etc", mtime=5), entry("etc/passwd", b"root", mtime=7),
    entry("etc/link", type=tarfile.SYMTYPE, linkname="x"),
    entry("hard", type=tarfile.LNKTYPE, linkname="etc/passwd"), entry("opt/.wh.gone"), folder("usr/lib"),
    entry("lib", type=tarfile.SYMTYPE, linkname="usr/lib"), entry("lib/through", b"1"), entry("empty"),
    entry("opt/.wh..wh..opq"), entry("pipe", type=tarfile.FIFOTYPE), folder("d"), folder("d", mode=0o700),
    entry("d/closed"), folder("again"), entry("again/.wh.x"), entry("again/x/.wh.hidden"), folder("again/x"),
    entry("lib/.wh.below"), entry("lib/.wh.below"), entry("through", type=tarfile.LNKTYPE, linkname="lib/through"),
    entry("again/.wh..wh.aufs"), entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
)  # fmt: skip


def _touch(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data)


def _relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/shadow")


def _rewrite(path: Path) -> None:
    path.unlink()
    path.write_text("r00t")


def _rewrite_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def _renumber(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o20644, os.makedev(1, 5))


_OPAQUE = "trusted.overlay.opaque" if os.geteuid() == 0 else "user.overlay.opaque"
_ALTERATIONS: list[tuple[Callable[[Path], object], str]] = [
    (lambda tree: (tree / "etc/passwd").write_text("r00t"), "etc/passwd has other content"),
    (lambda tree: (tree / "etc/passwd").chmod(0o666), "etc/passwd has mode 0666, not 0644"),
    (lambda tree: _touch(tree / "etc/passwd"), "etc/passwd was written to"),
    (lambda tree: (tree / "empty").write_text("full"), "empty was written to"),
    (lambda tree: (tree / "empty").unlink(), "empty is gone"),
    (lambda tree: _relink(tree / "empty"), "empty is of another kind"),
    (lambda tree: _relink(tree / "etc/link"), "etc/link leads elsewhere"),
    (lambda tree: (tree / "opt/new").touch(), "opt/new was added"),
    (lambda tree: (tree / "usr/lib/through").unlink(), "usr/lib/through cannot be read: No such file or directory"),
    (lambda tree: (tree / "d").chmod(0o755), "d has mode 0755, not 0700"),
    (lambda tree: _rewrite(tree / "hard"), "hard is another file"),
    (lambda tree: _rewrite(tree / "through"), "through is another file"),
    (lambda tree: (tree / "opt/gone").unlink(), "opt/gone is gone"),
    (lambda tree: _rewrite(tree / "opt/gone"), "opt/gone is of another kind"),
    (lambda tree: (tree / "usr/lib/below").unlink(), "usr/lib/below is gone"),
    (lambda tree: (tree / "opt").chmod(0o777), "opt has mode 0777, not 0755"),
    (lambda tree: _rewrite_folder(tree / "d"), "d/closed is gone"),
    (lambda tree: tree.chmod(0o777), "/ has mode 0777, not 0755"),
    (lambda tree: os.removexattr(tree / "opt", _OPAQUE), "opt has other attributes"),
    (lambda tree: os.removexattr(tree / "again/x", _OPAQUE), "again/x has other attributes"),
    (lambda tree: os.setxattr(tree / "etc", _OPAQUE, b"y"), "etc has other attributes"),
]
if os.geteuid() == 0:
    _ALTERATIONS += [
        (lambda tree: os.chown(tree / "etc/passwd", 7, -1), "etc/passwd belongs to 7:0, not 0:0"),
        (lambda tree: os.setxattr(tree / "empty", _CAPABILITY, _POWER), "empty has other attributes"),
        (lambda tree: os.removexattr(tree / "able", _CAPABILITY), "able has other attributes"),
        (lambda tree: os.setxattr(tree / "able", _CAPABILITY, _POWER), "able has other attributes"),
        (lambda tree: _renumber(tree / "null"), "null is another device"),
    ]


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore.open(tmp_path / "store")


def test_tree_as_it_was_written_has_no_alteration(store: ImageStore) -> None:
    assert store.find_alteration(add_layer(store, _TAR)) == ""


@pytest.mark.parametrize(("alter", "found"), _ALTERATIONS, ids=[found for _, found in _ALTERATIONS])
def test_alteration_is_named_and_the_next_writer_repairs_it(
    store: ImageStore, alter: Callable[[Path], object], found: str
) -> None:
    diff_id = add_layer(store, _TAR)
    alter(store.trees.path(diff_id))
    assert store.find_alteration(diff_id) == found
    store.trees.distrust(diff_id)
    assert not store.has_tree(diff_id)
    assert store.trees.path(diff_id).is_dir()  # images and containers keep it
    assert add_layer(store, _TAR) == diff_id_of(_TAR)
    assert (store.find_alteration(diff_id), read(store, diff_id)) == ("", _TAR)
    assert list((store.folder / "tmp").iterdir()) == []


def test_file_of_a_tree_that_is_replaced_is_never_missing(store: ImageStore) -> None:
    """Containers have the tree: it is looked at before and after all that Python calls while it is replaced."""
    diff_id = add_layer(store, _TAR)
    file, seen = store.trees.path(diff_id) / "etc/passwd", list[bool]()
    before = file.stat().st_ino
    store.trees.distrust(diff_id)
    sys.setprofile(lambda *_event: seen.append(file.exists()))
    try:
        add_layer(store, _TAR)
    finally:
        sys.setprofile(None)
    assert file.stat().st_ino != before
    assert len(seen) > 100
    assert all(seen)


def test_damaged_tar_split_file_is_named(store: ImageStore) -> None:
    diff_id = add_layer(store, _TAR)
    path = store.trees.tar_split_path(diff_id)
    for data in (path.read_bytes()[:-20], b"", b"no gzip"):
        path.write_bytes(data)
        assert store.find_alteration(diff_id).startswith(path.name)
    path.unlink()
    assert store.find_alteration(diff_id) == f"{path.name} is gone"
