"""The files of a checkout according to git, with any names, owner and state of the repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from buildkit.errors import ToolError
from buildkit.tools.git import WorkTreeFiles, find_commit, list_files, make_repository

pytestmark = pytest.mark.tools
ODD = ("a b.txt", "line\nbreak", "tab\there", "ünï.txt", "-dash", "* [x]", ' "quoted"', "back\\slash", ":(glob)x")


def git(folder: Path, *words: str, check: bool = True) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *words], cwd=folder, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    return folder


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_unusual_file_names_are_listed_unchanged(repository: Path) -> None:
    write(repository, *(f"app/{name}" for name in ODD))
    git(repository, "add", ".")
    assert list_files(repository, "app") == WorkTreeFiles(
        tracked=tuple(sorted(f"app/{name}" for name in ODD)), untracked=()
    )


def test_file_name_that_is_not_utf8_is_listed(repository: Path) -> None:
    (repository / "app").mkdir()
    Path(os.fsdecode(os.fsencode(repository) + b"/app/\xff")).write_text("x")
    git(repository, "add", ".")
    found = list_files(repository, "app")
    assert found is not None
    assert [os.fsencode(name) for name in found.tracked] == [b"app/\xff"]


def test_tracked_untracked_and_ignored_files_are_distinguished(repository: Path) -> None:
    write(repository, "app/tracked", "app/new", "app/x.pyc", "other/tracked", "other/new")
    (repository / ".gitignore").write_text("*.pyc\n")
    git(repository, "add", "app/tracked", "other/tracked")
    assert list_files(repository, "app") == WorkTreeFiles(tracked=("app/tracked",), untracked=("app/new",))
    whole = list_files(repository, ".")
    assert whole == WorkTreeFiles(
        tracked=("app/tracked", "other/tracked"), untracked=(".gitignore", "app/new", "other/new")
    )


def test_path_is_never_taken_as_a_pattern(repository: Path) -> None:
    write(repository, "a*/x", "ab/x", "[a]/x", "a/x", ":(top)/x")
    git(repository, "add", ".")
    for folder in ("a*", "[a]", ":(top)"):
        assert list_files(repository, folder) == WorkTreeFiles(tracked=(f"{folder}/x",), untracked=())


def test_single_deleted_and_conflicting_files_are_listed_once(repository: Path) -> None:
    write(repository, "app/one", "app/both")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "1")
    git(repository, "checkout", "-b", "other")
    (repository / "app/both").write_text("theirs")
    git(repository, "commit", "-a", "-m", "2")
    git(repository, "checkout", "main")
    (repository / "app/both").write_text("ours")
    git(repository, "commit", "-a", "-m", "3")
    git(repository, "merge", "other", check=False)
    (repository / "app/one").unlink()
    assert list_files(repository, "app") == WorkTreeFiles(tracked=("app/both", "app/one"), untracked=())
    assert list_files(repository, "app/both") == WorkTreeFiles(tracked=("app/both",), untracked=())


def test_paths_are_relative_to_the_requested_folder(repository: Path) -> None:
    write(repository, "images/app/x", "app/y")
    git(repository, "add", ".")
    assert list_files(repository / "images", "app") == WorkTreeFiles(tracked=("app/x",), untracked=())


def test_folder_outside_a_work_tree_has_no_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert list_files(tmp_path, ".") is None


def test_checkout_of_another_user_is_listed(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(repository, "app/x", "app/new")
    git(repository, "add", "app/x")
    monkeypatch.setenv("HOME", str(tmp_path))  # no settings of the user's that allow it
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch
    assert list_files(repository, "app") == WorkTreeFiles(tracked=("app/x",), untracked=("app/new",))


def test_work_tree_that_git_cannot_list_is_an_error(repository: Path) -> None:
    write(repository, "app/x")
    git(repository, "add", ".")
    (repository / ".git" / "index").write_bytes(b"damaged")
    with pytest.raises(ToolError, match=r"git, listing the files of app, failed") as caught:
        list_files(repository, "app")
    assert "index file" in caught.value.output


def test_damaged_repository_is_not_taken_for_a_missing_one(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, "tracked")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=x")
    git(repository, "worktree", "add", "--quiet", "-b", "other", "../tree")
    moved = repository.rename(repository.parent / "moved")
    with pytest.raises(ToolError) as caught:
        list_files(repository.parent / "tree", ".")
    assert "ignored files" in caught.value.hint
    (moved / ".git/HEAD").unlink()
    (moved / "folder").mkdir()
    with pytest.raises(ToolError):
        list_files(moved / "folder", ".")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    with pytest.raises(ToolError):
        list_files(repository.parent, ".")


def test_new_repository_tracks_its_names_and_touches_no_other(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "theirs")
    git(repository, "add", ".")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))  # as in a hook
    monkeypatch.setenv("GIT_INDEX_FILE", str(repository / ".git/index"))
    copy = repository / "in side" / "copy"
    copy.mkdir(parents=True)
    write(copy, *ODD, "folder/one", "not tracked")
    for name, value in make_repository(copy, (*ODD, "folder/one")).items():
        monkeypatch.setenv(name, value)
    listing = list_files(copy, ".")
    assert listing == WorkTreeFiles(tracked=tuple(sorted((*ODD, "folder/one"))), untracked=("not tracked",))
    assert {path: path.read_bytes() for path in before} == before


def test_commit_has_id_time_and_dirty_flag(repository: Path, monkeypatch) -> None:
    assert find_commit(repository) is None  # nothing is committed yet
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1700000000 +0900")
    write(repository, "a/one.txt", "b/two.txt")
    git(repository, "add", ".")
    git(repository, "commit", "--message=first")
    commit = find_commit(repository)
    assert commit is not None
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    assert (commit.id, commit.time, commit.dirty) == (head.stdout.strip(), 1_700_000_000, False)
    write(repository, "a/new.txt")  # git does not track it, so no image has it
    assert find_commit(repository) == commit
    (repository / "a/one.txt").write_text("changed")
    changed, unchanged = find_commit(repository / "a"), find_commit(repository / "b")
    assert changed is not None
    assert changed.dirty
    assert unchanged == commit


def test_folder_without_repository_has_no_commit(tmp_path: Path) -> None:
    assert find_commit(tmp_path) is None
