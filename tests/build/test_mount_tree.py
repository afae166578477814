"""Trees laid out for containers: the listed files, verified by their hashes, equal under any umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from buildkit.build.mount_tree import EPOCH, lay_out
from buildkit.digest import FileHash
from buildkit.errors import BuildError, MismatchError
from buildkit.plan.spec import Tree, TreeFile


def file(path: str, data: bytes, *, executable: bool = False) -> TreeFile:
    return TreeFile(path=path, sha256=FileHash.of(data), size=len(data), executable=executable)


def link(path: str, to: str) -> TreeFile:
    return TreeFile(path=path, sha256=FileHash.of(to.encode()), size=0, link=to)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project/lib/deep/er"
    folder.mkdir(parents=True)
    (folder / "a.py").write_bytes(b"a")
    (tmp_path / "project/lib/run").write_bytes(b"run")
    (tmp_path / "project/lib/secret").write_bytes(b"not tracked")
    return tmp_path / "project"


TREE = Tree(
    path="lib", files=(file("deep/er/a.py", b"a"), link("deep/link", "er"), file("run", b"run", executable=True))
)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_laid_out_tree_has_defined_names_modes_and_times(root: Path, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        place = lay_out(root, TREE, tmp_path / "out")
    finally:
        os.umask(before)
    found = {path.relative_to(place).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in place.rglob("*")}
    assert found == {"deep": 0o755, "deep/er": 0o755, "deep/er/a.py": 0o644, "deep/link": 0o777, "run": 0o755}
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    assert (place / "deep/link/a.py").read_bytes() == b"a"
    files = (path for path in place.rglob("*") if path.is_symlink() or path.is_file())
    assert {path.lstat().st_mtime for path in files} == {EPOCH}


@pytest.mark.parametrize("mode", [0o600, 0o755])
def test_laid_out_single_file_has_the_mode_of_the_tree(root: Path, tmp_path: Path, mode: int) -> None:
    (root / "lib/run").chmod(mode)
    place = lay_out(root, Tree(path="lib/run", files=(file(".", b"run"),)), tmp_path / "out")
    assert place.read_bytes() == b"run"
    assert stat.S_IMODE(place.stat().st_mode) == 0o644


def test_file_changed_since_it_was_hashed_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "lib/run").write_bytes(b"other")
    with pytest.raises(MismatchError, match=r"lib/run has changed"):
        lay_out(root, TREE, tmp_path / "out")


def test_tree_that_is_a_symbolic_link_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to("lib")
    with pytest.raises(BuildError, match="symbolic link"):
        lay_out(root, Tree(path="link", files=(link(".", "lib"),)), tmp_path / "out")
