"""Unusual files in a checkout lead to an error or a warning, never to a hang or silence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.build.mount_tree import lay_out
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.declare.stage import Copy
from buildkit.errors import DefinitionError, MismatchError
from buildkit.events import Event, Note
from buildkit.layers.files import CopiedFile, file_members
from buildkit.plan.spec import Tree
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from buildkit.tools.process import Command, run

pytestmark = pytest.mark.tools  # starts git


class Repository:
    """A git repository with an ``app`` folder, and what its checkout says."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder = folder
        self.app = folder / "app"
        self.app.mkdir(parents=True)
        (self.app / "main.py").write_text("pass\n")
        self.ledger = ledger
        self.index = StatIndex(ledger)
        self.events: list[Event] = []
        self.git("init", "--quiet")
        self.git("add", ".")

    def git(self, *arguments: str) -> None:
        run(Command(argv=("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments), cwd=self.folder))

    def checkout(self) -> DiskCheckout:
        project = load_project(self.folder)
        return DiskCheckout(project, load_graph(self.folder), self.index, self.events.append)

    def tree(self, path: str = "app") -> Tree:
        return self.checkout().tree(path)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note) and event.warning]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    stage = tmp_path / "project/stages/app/stage.toml"
    stage.parent.mkdir(parents=True)
    stage.write_text('summary = "x"\n')
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield Repository(tmp_path / "project", ledger)
    ledger.close()


def test_folder_without_tracked_files_is_an_error(repository: Repository) -> None:
    (repository.folder / "new").mkdir()
    (repository.folder / "new/main.py").write_text("")
    with pytest.raises(DefinitionError, match="new: none of its files belongs") as caught:
        repository.tree("new")
    assert "git add" in caught.value.hint


def contents(repository: Repository, path: str = "app") -> dict[str, str]:
    """The paths of a tree, each with what is packed there: its content, or `-> TARGET`."""
    tree = repository.tree(path)
    files = [CopiedFile(file.path, file.executable, file.sha256, not file.link) for file in tree.files]
    members = file_members(repository.folder / tree.path, files, "/")
    return {m.path: (m.target and f"-> {m.target}") or b"".join(m.content()).decode() for m in members}


def test_tree_behind_a_symbolic_link_is_that_of_its_target(repository: Repository) -> None:
    """`stages/app/app -> ../../src`: one dangling link would be an image without its application."""
    (repository.folder / "elsewhere").mkdir()
    repository.app.rename(repository.folder / "elsewhere/app")
    (repository.folder / "linked").symlink_to("elsewhere")
    (repository.folder / "direct").symlink_to("elsewhere/app")
    repository.git("add", "--all")
    for path in ("linked/app", "direct", "elsewhere/app"):
        assert contents(repository, path) == {"main.py": "pass\n"}
        assert repository.tree(path).path == "elsewhere/app"


def test_relative_link_of_a_copy_leads_to_what_the_copy_has(repository: Repository) -> None:
    (repository.app / "deep/er").mkdir(parents=True)
    (repository.app / "deep/er/x").write_text("x")
    links = {
        "top": ".", "folder": "deep", "through": "folder/er/x", "twice": "through", "deep/up": "../deep/er",
        "later": "/made/at/run/time",
    }  # fmt: skip
    for name, target in links.items():
        (repository.app / name).symlink_to(target)
    repository.git("add", "--all")
    found = {file.path: file.link for file in copied(repository, "app").files if file.link}
    assert found == links


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothere", "stages/app/app/link: a link to stages/app/app/nothere, which does not exist"),
        ("folder/gone", "stages/app/app/link: a link to stages/app/app/deep/gone, which does not exist"),
        ("built.py", "stages/app/app/link: a link to stages/app/app/built.py, which the copy leaves out"),
        ("link", "stages/app/app/link: a link that leads in a circle"),
    ],
)
def test_relative_link_of_a_copy_that_would_lead_nowhere_is_refused(
    repository: Repository, target: str, message: str
) -> None:
    app = repository.folder / "stages/app/app"
    (app / "deep").mkdir(parents=True)
    (app / "deep/x").write_text("x")
    (app / "folder").symlink_to("deep")
    (app / "link").symlink_to(target)
    (repository.folder / ".gitignore").write_text("built.py\n")
    repository.git("add", "--all")
    (app / "built.py").write_text("made by a build")
    with pytest.raises(DefinitionError) as caught:
        copied(repository, "./app")
    assert caught.value.message.startswith(message)
    assert "remove" in caught.value.hint
    repository.tree()


def test_link_that_leaves_the_tree_is_replaced_by_its_target(repository: Repository) -> None:
    (repository.folder / "common/deep").mkdir(parents=True)
    (repository.folder / "common/deep/x").write_text("x")
    (repository.folder / "common/own").symlink_to("deep/x")
    (repository.folder / "LICENSE").write_text("free")
    (repository.app / "sub").mkdir()
    for name, target in {
        "LICENSE": "../LICENSE", "shared": "../common", "sub/deep": "../../common/deep", "sub/main": "../main.py",
        "absolute": "/usr/bin/env", "later": "made-at-run-time",
    }.items():  # fmt: skip
        (repository.app / name).symlink_to(target)
    repository.git("add", "--all")
    assert contents(repository) == {
        "LICENSE": "free", "absolute": "-> /usr/bin/env", "later": "-> made-at-run-time", "main.py": "pass\n",
        "shared/deep/x": "x", "shared/own": "-> deep/x", "sub/deep/x": "x", "sub/main": "-> ../main.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("../../outside", "app/link: the path leads out of the repository's files, to ", "put the file itself there"),
        ("../nowhere", "app/link: a link to nowhere, which does not exist", ""),
        ("../link2", "app/link: a link to link3, which does not exist", ""),
        ("..", "app/link: a link to a folder that the link is in", "ignore it"),
        (
            "../new",
            "app/link: a link to new, of which nothing belongs to the repository",
            "git add new",
        ),
    ],
)
def test_link_without_content_is_refused_by_name(repository: Repository, target: str, message: str, hint: str) -> None:
    (repository.folder.parent / "outside").write_text("secret")
    (repository.app / "link").symlink_to(target)
    (repository.folder / "link2").symlink_to("link3")
    repository.git("add", "--all")
    (repository.folder / "new").write_text("not for images")
    with pytest.raises(DefinitionError) as caught:
        repository.tree()
    assert str(caught.value).startswith(message)
    assert hint in caught.value.hint


@pytest.mark.parametrize("path", ["link", "app"])
def test_tree_that_leads_out_of_the_project_is_refused(repository: Repository, path: str) -> None:
    (repository.folder.parent / "outside").mkdir()
    (repository.folder.parent / "outside/passwd").write_text("secret")
    if path == "app":
        shutil.rmtree(repository.app)
    (repository.folder / path).symlink_to("../outside")
    repository.git("add", "--all")
    with pytest.raises(DefinitionError, match=f"^{path}: the path leads out of the repository"):
        repository.tree(path)


def test_pointer_of_git_lfs_is_refused_when_it_is_packed(repository: Repository) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4' * 64}\nsize 12345\n"
    (repository.app / "weights.bin").write_text(pointer)
    repository.git("add", "--all")
    with pytest.raises(MismatchError, match=r"app/weights\.bin: a pointer of Git LFS") as caught:
        contents(repository)
    assert caught.value.hint == "run: git lfs pull"
    with pytest.raises(MismatchError, match=r"app/weights\.bin: a pointer of Git LFS"):
        lay_out(repository.folder, repository.tree(), repository.folder.parent / "copy")


def test_file_that_a_sparse_checkout_left_out_is_an_error(repository: Repository) -> None:
    (repository.app / "data").mkdir()
    (repository.app / "data/x").write_text("x")
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message=x")
    repository.git("sparse-checkout", "set", "--no-cone", "/*", "!/app/data/")
    assert not (repository.app / "data").exists()
    with pytest.raises(DefinitionError, match=r"^app/data/x: left out of this sparse checkout") as caught:
        repository.tree()
    assert "git sparse-checkout add app/data" in caught.value.hint
    (repository.folder / ".containerignore").write_text("app/data\n")
    assert contents(repository) == {"main.py": "pass\n"}


def test_tracked_file_whose_folder_became_a_file_is_left_out(repository: Repository) -> None:
    (repository.app / "sub").mkdir()
    (repository.app / "sub/x").write_text("x")
    repository.git("add", ".")
    (repository.app / "sub/x").unlink()
    (repository.app / "sub").rmdir()
    (repository.app / "sub").write_text("a file now")
    assert [file.path for file in repository.tree().files] == ["main.py"]


def test_named_pipe_is_an_error_and_is_not_read(repository: Repository) -> None:
    (repository.app / "main.py").unlink()
    os.mkfifo(repository.app / "main.py")
    with pytest.raises(DefinitionError, match=r"app/main.py: neither a file nor a symbolic link"):
        repository.tree()


def test_named_pipe_without_git_is_an_error(repository: Repository) -> None:
    (repository.folder / ".git").rename(repository.folder.parent / "git")
    os.mkfifo(repository.app / "pipe")
    with pytest.raises(DefinitionError, match="app/pipe"):
        repository.tree()


def add_submodule(repository: Repository, path: str) -> None:
    library = Repository(repository.folder.parent / "library", repository.ledger)
    library.git("commit", "--quiet", "--message=x")
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.folder), path)
    repository.git("commit", "--quiet", "--message=x")


def test_files_of_a_submodule_are_taken_and_a_missing_one_is_an_error(repository: Repository) -> None:
    add_submodule(repository, "app/vendor")
    (repository.app / "vendor/new").write_text("untracked")
    assert contents(repository) == {"main.py": "pass\n", "vendor/app/main.py": "pass\n"}
    assert contents(repository, "app/vendor/app") == {"main.py": "pass\n"}
    assert repository.warnings == ["app/vendor/new: not tracked by git, so left out (git add it)"] * 1
    repository.git("submodule", "deinit", "--quiet", "--force", "app/vendor")
    with pytest.raises(DefinitionError, match=r"^app/vendor: a submodule that is not fetched$") as caught:
        repository.tree()
    assert caught.value.hint == "run: git submodule update --init -- app/vendor"


def test_folder_in_the_place_of_a_tracked_file_is_no_submodule(repository: Repository) -> None:
    (repository.app / "x").write_text("x")
    repository.git("add", "--all")
    (repository.app / "x").unlink()
    (repository.app / "x").mkdir()
    assert contents(repository) == {"main.py": "pass\n"}


def test_error_names_an_unreadable_lock(repository: Repository) -> None:
    (repository.folder / "loop").symlink_to("loop")
    with pytest.raises(DefinitionError, match="loop: cannot be read"):
        repository.checkout().read("loop")


def test_project_without_git_warns_that_every_file_is_taken(repository: Repository) -> None:
    shutil.rmtree(repository.folder / ".git")
    (repository.app / ".env").write_text("SECRET=1\n")
    assert [file.path for file in repository.tree().files] == [".env", "main.py"]
    assert repository.warnings == ["app: not in a git repository, so every file is taken"]


def copied(repository: Repository, source: str, **more: bool) -> Tree:
    """The files of a copy of the stage `app`."""
    checkout = repository.checkout()
    stage = load_graph(repository.folder).get("app")
    return checkout.copied(stage, Copy(source=source, target="/app", **more))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("src", "src"),
        ("/src", "src"),
        ("/src/one.py", "src/one.py"),
        ("../../src", "src"),
        ("own", "stages/app/own"),
        ("./own", "stages/app/own"),
        ("/both", "both"),
        ("./both", "stages/app/both"),
        (".", "stages/app"),
        ("/", "."),
        ("../..", "."),
    ],
)
def test_copy_is_from_the_stage_or_from_anywhere_in_the_repository(
    repository: Repository, source: str, path: str
) -> None:
    names = ("src/one.py", "stages/app/own/two.py", "both/three.py", "stages/app/both/four.py")
    for name in names:
        (repository.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.folder / name).write_text(name)
    repository.git("add", ".")
    tree = copied(repository, source)
    assert tree.path == path
    tracked = (*names, "app/main.py", "stages/app/stage.toml")
    inside = {os.path.relpath(name, path) for name in tracked}
    assert [file.path for file in tree.files] == sorted(name for name in inside if not name.startswith(".."))


@pytest.mark.parametrize(
    ("source", "what", "hint"),
    [
        ("app2", "there is no stages/app/app2 and no app2 in the repository", "did you mean `app`?"),
        ("/stage", "there is no stage in the repository", "did you mean `stages`?"),
        ("app/man.py", "there is no stages/app/app/man.py and no app/man.py", "did you mean `app/main.py`?"),
        ("*.py", "there is no stages/app/*.py and no *.py", "patterns are not read"),
        ("../../..", "there is no", ""),
        ("both", "is next to the stage file, stages/app/both, and in the repository, both", '"./both"'),
    ],
)
def test_copy_that_is_nowhere_or_in_two_places_is_refused(
    repository: Repository, source: str, what: str, hint: str
) -> None:
    for folder in ("both", "stages/app/both"):
        (repository.folder / folder).mkdir()
    if source == "../../..":
        with pytest.raises(DefinitionError, match="leads out of the repository's files"):
            copied(repository, source)
        return
    with pytest.raises(DefinitionError) as caught:
        copied(repository, source)
    (problem,) = caught.value.problems
    assert problem.file == "stages/app/stage.toml"
    assert problem.key == "copy.source"
    assert what in problem.what
    assert hint in problem.hint


def test_copy_names_what_git_ignores_and_takes_it_if_told(repository: Repository) -> None:
    (repository.folder / ".gitignore").write_text("*_pb2.py\n*.bin\nbuilt/\n.cache/\n__pycache__/\n*.pyc\nquiet\n")
    (repository.folder / ".containerignore").write_text("app/quiet\n")
    for name in (
        "api_pb2.py", "sub/x.bin", "sub/y.py", "built/a/b.js", ".cache/x", "__pycache__/m.pyc", "m.pyc", "quiet", "new",
    ):  # fmt: skip
        (repository.app / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.app / name).write_text(name)
    repository.git("add", "app/sub")
    (repository.app / "empty/below").mkdir(parents=True)
    assert [file.path for file in copied(repository, "app").files] == ["main.py", "sub/y.py"]
    untracked, ignored = repository.warnings
    assert untracked.startswith("app/new: not tracked by git")
    assert ignored.startswith("app/api_pb2.py, app/built/, app/sub/x.bin: ignored by git, so left out of the copy of")
    assert "`untracked = true` takes" in ignored
    repository.events.clear()
    whole = copied(repository, "app", untracked=True)
    assert [file.path for file in whole.files] == [
        ".cache/x", "api_pb2.py", "built/a/b.js", "m.pyc", "main.py", "new", "sub/x.bin", "sub/y.py",
    ]  # fmt: skip
    assert not repository.warnings


def test_whole_repository_with_untracked_files_never_holds_git_itself(repository: Repository) -> None:
    add_submodule(repository, "app/vendor")
    assert not [file.path for file in copied(repository, "/", untracked=True).files if ".git" in file.path.split("/")]
    assert "app/vendor/app/main.py" in {file.path for file in copied(repository, "/", untracked=True).files}


def test_submodule_that_is_not_fetched_is_refused_with_untracked_files_too(repository: Repository) -> None:
    add_submodule(repository, "app/vendor")
    repository.git("submodule", "deinit", "--force", "--", "app/vendor")
    with pytest.raises(DefinitionError, match="app/vendor: a submodule that is not fetched"):
        copied(repository, "app", untracked=True)


def test_pointer_of_git_lfs_is_refused_in_a_single_file_too(repository: Repository) -> None:
    (repository.folder / "data.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    repository.git("add", ".")
    tree = copied(repository, "/data.bin")
    files = [CopiedFile(file.path, file.executable, file.sha256, not file.link) for file in tree.files]
    (member,) = file_members(repository.folder / tree.path, files, "/x/data.bin")
    with pytest.raises(MismatchError, match=r"data\.bin: a pointer of Git LFS, not the file itself"):
        list(member.content())
