"""Unusual files in a checkout lead to an error or a warning, never to a hang or silence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.errors import DefinitionError
from buildkit.events import Event, Note
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
        self.app.mkdir()
        (self.app / "main.py").write_text("pass\n")
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


def test_folder_behind_a_symbolic_link_is_an_error(repository: Repository) -> None:
    (repository.folder / "elsewhere").mkdir()
    repository.app.rename(repository.folder / "elsewhere/app")
    (repository.folder / "linked").symlink_to("elsewhere")
    repository.git("add", "--all")
    with pytest.raises(DefinitionError, match="linked/app"):
        repository.tree("linked/app")


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


def test_submodule_is_left_out_with_a_warning(repository: Repository) -> None:
    module = repository.app / "module"
    module.mkdir()
    run(Command(argv=("git", "init", "--quiet", str(module))))
    inside = ("git", "-C", str(module), "-c", "user.name=t", "-c", "user.email=t@example.org")
    run(Command(argv=(*inside, "commit", "--quiet", "--allow-empty", "--message=x")))
    repository.git("add", "--all")
    assert [file.path for file in repository.tree().files] == ["main.py"]
    assert any("app/module: a submodule" in text for text in repository.warnings)


def test_error_names_an_unreadable_lock(repository: Repository) -> None:
    (repository.folder / "loop").symlink_to("loop")
    with pytest.raises(DefinitionError, match="loop: cannot be read"):
        repository.checkout().read("loop")


def test_project_without_git_warns_that_every_file_is_taken(repository: Repository) -> None:
    shutil.rmtree(repository.folder / ".git")
    (repository.app / ".env").write_text("SECRET=1\n")
    assert [file.path for file in repository.tree().files] == [".env", "main.py"]
    assert repository.warnings == ["app: not in a git repository, so every file is taken"]
