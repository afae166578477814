"""A staged folder shows the files that it was given, complete, and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from buildkit.develop.staged_tree import StagedTree
from buildkit.develop.staging import StagedFile
from buildkit.digest import FileHash
from buildkit.errors import BuildError


def staged(project: Path, *names: str) -> dict[str, StagedFile]:
    """Return what a layer would hold of files below ``app``, by their paths there."""
    return {name: describe(project, name) for name in names}


def describe(project: Path, name: str) -> StagedFile:
    path = project / "app" / name
    content = FileHash.of(path.read_bytes()).hex
    return StagedFile(source=f"app/{name}", content=content, executable=os.access(path, os.X_OK))


def shown(tree: StagedTree) -> Mapping[str, str]:
    files = (path for path in tree.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(tree.folder)): path.read_text() for path in files}


def write(project: Path, name: str, text: str, mode: int = 0o600) -> None:
    path = project / "app" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, "api.py", "one")
    write(tmp_path, "deep/er/run", "run", 0o700)
    return tmp_path


@pytest.fixture
def tree(project: Path, tmp_path: Path) -> StagedTree:
    tree = StagedTree(project, tmp_path / "home")
    tree.update(staged(project, "api.py", "deep/er/run"))
    return tree


def test_update_shows_files_with_the_modes_of_a_layer(tree: StagedTree) -> None:
    assert shown(tree) == {"api.py": "one", "deep/er/run": "run"}
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tree.folder.rglob("*")}
    assert modes == {"api.py": 0o644, "run": 0o755, "deep": 0o755, "er": 0o755}


def test_update_changes_what_differs_alone(project: Path, tree: StagedTree) -> None:
    before = (tree.folder / "deep/er/run").stat().st_ino
    write(project, "api.py", "two")
    write(project, "new/x.py", "x")
    changed = tree.update(staged(project, "api.py", "deep/er/run", "new/x.py"))
    assert changed == ("api.py", "new/x.py")
    assert (tree.folder / "deep/er/run").stat().st_ino == before
    assert tree.update(staged(project, "api.py", "deep/er/run", "new/x.py")) == ()


def test_update_removes_files_and_emptied_folders(project: Path, tree: StagedTree) -> None:
    assert tree.update(staged(project, "api.py")) == ("deep/er/run",)
    assert [path.name for path in tree.folder.iterdir()] == ["api.py"]


def test_folder_takes_the_place_of_a_file_and_back(project: Path, tree: StagedTree) -> None:
    (project / "app/api.py").unlink()
    write(project, "api.py/inner.py", "inner")
    tree.update(staged(project, "api.py/inner.py"))
    assert shown(tree) == {"api.py/inner.py": "inner"}
    (project / "app/api.py/inner.py").unlink()
    (project / "app/api.py").rmdir()
    write(project, "api.py", "file")
    tree.update(staged(project, "api.py"))
    assert shown(tree) == {"api.py": "file"}


def test_links_stay_links(project: Path, tree: StagedTree) -> None:
    link = StagedFile(source="app/now.py", content=FileHash.of(b"api.py").hex, link="api.py")
    tree.update({**staged(project, "api.py"), "now.py": link})
    assert (tree.folder / "now.py").readlink() == Path("api.py")


def test_refresh_takes_new_contents_and_says_nothing_of_equal_ones(project: Path, tree: StagedTree) -> None:
    assert tree.refresh(["app/api.py"]) == ()
    (project / "app/swap").write_text("three")
    (project / "app/swap").rename(project / "app/api.py")  # as editors save
    assert tree.refresh(["app/api.py", "app/deep/er/run"]) == ("api.py",)
    assert shown(tree)["api.py"] == "three"


def test_refresh_leaves_to_update_what_is_new_gone_or_of_another_kind(project: Path, tree: StagedTree) -> None:
    write(project, "untracked.py", "secret")
    assert tree.refresh(["app/untracked.py"]) is None
    (project / "app/api.py").unlink()
    assert tree.refresh(["app/api.py"]) is None
    write(project, "api.py", "one", 0o700)
    assert tree.refresh(["app/api.py"]) is None, "now it is executable"
    (project / "app/api.py").unlink()
    (project / "app/api.py").symlink_to("/etc/passwd")
    assert tree.refresh(["app/api.py"]) is None
    assert shown(tree) == {"api.py": "one", "deep/er/run": "run"}


def test_reader_of_the_old_file_keeps_it(project: Path, tree: StagedTree) -> None:
    with (tree.folder / "api.py").open() as reader:
        write(project, "api.py", "two")
        tree.refresh(["app/api.py"])
        assert reader.read() == "one"


def test_full_disk_is_one_message_and_the_next_update_repairs(
    project: Path, tree: StagedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(project, "api.py", "two")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(BuildError, match="the disk is full"):
            tree.refresh(["app/api.py"])
    assert shown(tree)["api.py"] == "one"
    assert list((tree.folder.parent / "new").iterdir()) == []
    tree.update(staged(project, "api.py"))
    assert shown(tree) == {"api.py": "two"}


def test_sources_of_files_are_known(tree: StagedTree) -> None:
    assert tree.find_source("deep/er/run") == "app/deep/er/run"
    assert tree.find_source("none") is None
    assert tree.has("app/api.py")
    assert not tree.has("app/other.py")
