"""A checkout on disk: stale locks are reported, tracked files are hashed, and models of the repository are checked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.build.options import ModelChanges
from buildkit.build.present_models import PresentModels
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.events import Event, Note
from buildkit.locks.freshness import apt_inputs, models_inputs, render_header, requirements_inputs, wheels_inputs
from buildkit.locks.model_source import RepoSource
from buildkit.locks.models_lock import ModelRequest, ModelsLock, render_models_lock, request_hash
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.spec import Tree
from buildkit.resolve.request import LockDrafts
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import Hashed, StatIndex

STAGE = """
summary = "x"
[root]
suite = "trixie"
packages = "requirements/base.apt"
[wheels]
locks = ["requirements/x.txt"]
[models]
lock = "requirements/models.lock"
"""
REQUIREMENT = f"click==8 \\\n    --hash=sha256:{'a' * 64}\n"
WHEELS = f"""
[target]
python = "3.13"
glibc = "2.41"
arch = "x86_64"
[[artifact]]
name = "click"
version = "8"
file = "click-8-py3-none-any.whl"
sha256 = "{"a" * 64}"
size = 5
"""


@dataclass
class Place:
    """A project on disk."""

    folder: Path
    ledger: Ledger
    events: list[Event] = field(default_factory=list)

    def write(self, name: str, data: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def checkout(self, models: ModelChanges = ModelChanges.REFUSE) -> DiskCheckout:
        project, graph = load_project(self.folder), load_graph(self.folder)
        return DiskCheckout(project, graph, StatIndex(self.ledger), self.events.append, models=models)

    def lock(self) -> None:
        checkout = self.checkout()
        target = load_project(self.folder).target
        inputs = requirements_inputs("requirements/x.in", checkout.read, target, locker="uv")
        lock = render_header(inputs) + REQUIREMENT
        self.write("requirements/x.txt", lock)
        self.write("requirements/x.wheels.toml", render_header(wheels_inputs(lock, target)) + WHEELS)
        listed = checkout.read("requirements/base.apt") or ""
        settings = {"suite": "trixie", "variant": "minbase", "components": "main", "arch": "amd64"}
        self.write("requirements/base.apt.lock", render_header(apt_inputs(listed, **settings)) + "dash=0.5\n")
        request = ModelRequest(name="m", source=RepoSource(path="weights"))
        data = (self.folder / "weights/w.bin").read_bytes()
        file = ModelFile(path="w.bin", sha256=FileHash.of(data), size=len(data), source="weights/w.bin")
        model = Model(name="m", version="", source=RepoSource(path="weights"), license="", files=(file,))
        asked = models_inputs(checkout.read("requirements/models.toml") or "")
        made = ModelsLock(inputs=asked, models=(model,), requests=(request_hash(request),))
        self.write("requirements/models.lock", render_models_lock(made))

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note) and event.warning]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    found = Place(tmp_path / "project", ledger)
    found.write("pyproject.toml", '[tool.buildkit]\narch = "x86_64"\n')
    found.write("stages/x/stage.toml", STAGE)
    found.write("requirements/x.in", "click\n")
    found.write("requirements/base.apt", "dash\n")
    found.write("requirements/models.toml", '[[model]]\nname = "m"\nsource = "path:weights"\n')
    found.write("weights/w.bin", b"weights")
    found.lock()
    yield found
    ledger.close()


def ask(place: Place, what: str, models: ModelChanges = ModelChanges.REFUSE) -> object:
    checkout = place.checkout(models)
    asked = {
        "wheels": lambda: checkout.artifacts("requirements/x.txt"),
        "apt": lambda: checkout.apt("requirements/base.apt"),
        "models": lambda: checkout.models("requirements/models.lock"),
    }
    return asked[what]()


def error(place: Place, what: str, models: ModelChanges = ModelChanges.REFUSE) -> str:
    with pytest.raises(DefinitionError) as caught:
        ask(place, what, models)
    assert caught.value.exit_code == 2
    return f"{caught.value.message} ({caught.value.hint})"


def test_fresh_locks_give_artifacts_packages_and_models(place: Place) -> None:
    assert [artifact.name for artifact in place.checkout().artifacts("requirements/x.txt")] == ["click"]
    assert [pin.version for pin in place.checkout().apt("requirements/base.apt")] == ["0.5"]
    assert [model.name for model in place.checkout(ModelChanges.FROZEN).models("requirements/models.lock")] == ["m"]
    assert [pin.name for pin in place.checkout().pins("requirements/x.txt")] == ["click"]
    assert place.events == []


@pytest.mark.parametrize("hidden", ["", f"# --hash=sha256:{'e' * 64}\n"])
def test_wheel_file_that_no_pin_allows_is_refused(place: Place, hidden: str) -> None:
    """Altering one lock alone admits no wheel into an image, not even one in the cache."""
    wheels = (place.folder / "requirements/x.wheels.toml").read_text()
    assert wheels.count("a" * 64) == 1
    place.write("requirements/x.wheels.toml", wheels.replace("a" * 64, "e" * 64))
    place.write("requirements/x.txt", (place.folder / "requirements/x.txt").read_text() + hidden)  # not stale by that
    found = error(place, "wheels")
    assert f"requirements/x.wheels.toml: click 8 has sha256:{'e' * 64}, which requirements/x.txt does not" in found
    assert "one of the two was altered" in found


RUN = "(run: nox -s lock)"
OLDER = ": the lock is older than its input"
STALE = {
    "requirements older": (
        "wheels",
        "requirements/x.in",
        "click\nanyio\n",
        f"requirements/x.txt{OLDER}",
    ),
    "wheels lock older": (
        "wheels",
        "requirements/x.txt",
        None,
        f"requirements/x.wheels.toml{OLDER}",
    ),
    "apt older": (
        "apt",
        "requirements/base.apt",
        "dash\nbash\n",
        f"requirements/base.apt.lock{OLDER}",
    ),
    "apt for another suite": (
        "apt",
        "stages/x/stage.toml",
        STAGE.replace("trixie", "forky"),
        f"requirements/base.apt.lock{OLDER}",
    ),
    "models older": (
        "models",
        "requirements/models.toml",
        '[[model]]\nname = "n"\nsource = "path:w"',
        f"requirements/models.lock{OLDER}",
    ),
    "no header": (
        "apt",
        "requirements/base.apt.lock",
        "dash=0.5\n",
        "requirements/base.apt.lock: the lock does not say what it was made from",
    ),
    "another target": (
        "wheels",
        "pyproject.toml",
        '[tool.buildkit]\narch = "aarch64"\n',
        f"requirements/x.wheels.toml{OLDER}",
    ),
    "another locker": (
        "wheels",
        "pyproject.toml",
        '[tool.buildkit]\narch = "x86_64"\nlocker = "pip-tools"\n',
        f"requirements/x.txt{OLDER}",
    ),
}


@pytest.mark.parametrize("case", STALE)
def test_error_names_a_lock_older_than_its_input(place: Place, case: str) -> None:
    what, file, text, message = STALE[case]
    before = (place.folder / "requirements/x.txt").read_text()
    place.write(file, before.replace("a" * 64, "b" * 64) if text is None else text)
    assert error(place, what) == f"{message} {RUN}"


@pytest.mark.parametrize(
    ("what", "file"),
    [("wheels", "x.txt"), ("wheels", "x.wheels.toml"), ("apt", "base.apt.lock"), ("models", "models.lock")],
)
def test_error_names_a_missing_lock(place: Place, what: str, file: str) -> None:
    (place.folder / "requirements" / file).unlink()
    assert error(place, what) == f"requirements/{file}: the lock is missing {RUN}"


@pytest.mark.parametrize(("what", "stem"), [("wheels", "x"), ("models", "models")])
def test_error_names_lock_and_input_if_both_are_missing(place: Place, what: str, stem: str) -> None:
    for path in (place.folder / "requirements").glob(f"{stem}.*"):
        path.unlink()
    found = error(place, what)
    assert "the lock is missing, and so is its input requirements/" in found
    assert f"write requirements/{stem}." in found


def test_error_names_a_missing_apt_list(place: Place) -> None:
    (place.folder / "requirements/base.apt").unlink()
    assert error(place, "apt").startswith("requirements/base.apt: there is no such apt list")


def test_error_in_a_lock_takes_precedence_over_a_stale_wheels_lock(place: Place) -> None:
    head = (place.folder / "requirements/x.txt").read_text().splitlines()[0]
    place.write("requirements/x.txt", f"{head}\nclick==8\n")
    message = error(place, "wheels")
    assert "requirements/x.txt:2" in message
    assert "hash" in message


def test_comments_and_spaces_do_not_make_a_lock_stale(place: Place) -> None:
    place.write("requirements/x.in", "# why\n\n  click   # because\n")
    place.write("requirements/base.apt", "# why\n\ndash # because\n")
    place.write("requirements/models.toml", '# why\n[[model]]\nname = "m" # x\nsource = "path:weights"\n')
    for what in ("wheels", "apt", "models"):
        assert ask(place, what)


def test_error_names_a_file_that_is_not_utf8(place: Place) -> None:
    place.write("requirements/base.apt", b"\xff")
    assert error(place, "apt").startswith("requirements/base.apt: not UTF-8 text")


# models of one's own


DIFFERS = "weights/w.bin: model `m` differs from requirements/models.lock"


@pytest.mark.parametrize(
    ("how", "warning"), [(ModelChanges.ACCEPT, "using the present file"), (ModelChanges.REPORT, "a build refuses that")]
)
def test_changed_model_file_is_used_with_a_warning_where_that_is_asked_for(
    place: Place, how: ModelChanges, warning: str
) -> None:
    place.write("weights/w.bin", b"new weights")
    (model,) = place.checkout(how).models("requirements/models.lock")
    assert (model.files[0].sha256, model.files[0].size) == (FileHash.of(b"new weights"), 11)
    assert place.notes() == [f"{DIFFERS}; {warning} (nox -s lock records it)"]


def test_changed_model_file_is_refused_with_the_commands_that_mend_it(place: Place) -> None:
    place.write("weights/w.bin", b"new weights")
    message = error(place, "models")
    assert message == f"{DIFFERS} (run: nox -s lock (or build with --changed-models, to try the file))"
    assert error(place, "models", ModelChanges.FROZEN) == f"{DIFFERS} (run: nox -s lock, or restore the file)"
    assert place.events == []


ADDED = "weights/sub/new.json: model `m` has this file, which requirements/models.lock lacks"


def test_file_added_to_a_model_is_a_change(place: Place) -> None:
    """A lock is held against the set of files, not only against those that it names."""
    (before,) = place.checkout(ModelChanges.FROZEN).models("requirements/models.lock")
    place.write("weights/sub/new.json", b"{}")
    place.write("weights/.git/config", b"token")  # no part of a model
    assert error(place, "models") == f"{ADDED} (run: nox -s lock (or build with --changed-models, to try the file))"
    assert error(place, "models", ModelChanges.FROZEN) == f"{ADDED} (run: nox -s lock, or remove the file)"
    (model,) = place.checkout(ModelChanges.ACCEPT).models("requirements/models.lock")
    added = ModelFile(path="sub/new.json", sha256=FileHash.of(b"{}"), size=2, source="weights/sub/new.json")
    assert model.files == (*before.files, added)
    assert place.notes() == [f"{ADDED}; using the present file (nox -s lock records it)"]


def test_added_file_that_the_patterns_do_not_choose_changes_nothing(place: Place) -> None:
    place.write("requirements/models.toml", '[[model]]\nname = "m"\nsource = "path:weights"\nfiles = ["*.bin"]\n')
    place.lock()
    place.write("weights/readme.md", b"{}")
    assert place.checkout(ModelChanges.FROZEN).models("requirements/models.lock")
    place.write("weights/more.bin", b"{}")
    assert error(place, "models").startswith("weights/more.bin: model `m` has this file")


# 4.20: files of the machine


@pytest.mark.parametrize("how", ModelChanges)
@pytest.mark.parametrize("kind", ["file", "folder", "parent", "git", "dangling"])
def test_model_file_that_leads_out_of_the_repository_is_refused_by_name(
    place: Place, tmp_path: Path, how: ModelChanges, kind: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "w.bin").write_bytes(b"weights")  # even with the hash of the lock
    weights = place.folder / "weights"
    (weights / "w.bin").unlink()
    if kind == "parent":
        weights.rmdir()
        weights.symlink_to(outside)
    elif kind == "git":
        place.write(".git/w.bin", b"weights")
        (weights / "w.bin").symlink_to("../.git/w.bin")
    elif kind == "folder":
        (weights / "w.bin").symlink_to(outside)
    else:
        (weights / "w.bin").symlink_to(outside / ("w.bin" if kind == "file" else "nothing"))
    message = error(place, "models", how)
    named = "weights" if kind == "parent" else "weights/w.bin"
    assert message.startswith(f"{named}: model `m` leads out of the repository's files, to ")
    assert place.events == []


def test_model_file_may_be_a_link_within_the_repository(place: Place) -> None:
    place.write("blobs/w.bin", b"weights")
    (place.folder / "weights/w.bin").unlink()
    (place.folder / "weights/w.bin").symlink_to("../blobs/w.bin")
    (model,) = place.checkout(ModelChanges.FROZEN).models("requirements/models.lock")
    assert model.files[0].sha256 == FileHash.of(b"weights")


@pytest.mark.parametrize(
    "source", ["/etc/passwd", "../outside", "weights/../../outside", "requirements/x.in", "weights/other"]
)
def test_models_lock_names_no_file_of_another_place(place: Place, source: str) -> None:
    text = (place.folder / "requirements/models.lock").read_text()
    place.write("requirements/models.lock", text.replace('"weights/w.bin"', f'"{source}"'))
    assert error(place, "models") == (
        f"requirements/models.lock: {source} is not a file of model `m` (path:weights) (run: nox -s lock)"
    )


@pytest.mark.parametrize("how", ModelChanges)
def test_models_lock_names_no_link_that_the_request_does_not_choose(place: Place, how: ModelChanges) -> None:
    place.write("requirements/models.toml", '[[model]]\nname = "m"\nsource = "path:weights"\nfiles = ["*.bin"]\n')
    place.lock()
    text = (place.folder / "requirements/models.lock").read_text()
    place.write("requirements/models.lock", text.replace("w.bin", "passwd"))  # a hash of the file would match
    (place.folder / "weights/passwd").symlink_to("/etc/passwd")
    assert error(place, "models", how).startswith(
        "weights/passwd: model `m` leads out of the repository's files, to /etc/passwd"
    )


def test_tree_outside_git_follows_no_link_out_of_the_folder(place: Place, tmp_path: Path) -> None:
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/deep/key").write_text("secret")
    (place.folder / "stages/x/link").symlink_to(tmp_path / "outside")
    for path in ("stages/x/link", "stages/x/link/deep"):
        with pytest.raises(DefinitionError, match=f"^{path}: the path leads out of the repository's files"):
            place.checkout().tree(path)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files were looked up in each query."""
    together: list[int] = []
    real = StatIndex.hash_all

    def counted(index: StatIndex, folder: Path, names: Iterable[str]) -> dict[str, Hashed]:
        found = real(index, folder, names)
        together.append(len(found))
        return found

    monkeypatch.setattr(StatIndex, "hash_all", counted)
    return together


def test_files_of_all_models_are_hashed_together(place: Place, together: list[int]) -> None:
    """Each model by itself would keep one core busy."""
    models = []
    for name in ("one", "two"):
        place.write(f"{name}/w.bin", name)
        file = ModelFile(path="w.bin", sha256=FileHash.of(name.encode()), size=3, source=f"{name}/w.bin")
        models.append(Model(name=name, version="", source=RepoSource(path=name), license="", files=(file,)))
    reader = PresentModels(place.folder, StatIndex(place.ledger), ModelChanges.REFUSE, place.events.append)
    assert reader.read_all(models, "requirements/models.lock", {}) == tuple(models)
    assert together == [2]


def test_files_of_models_and_trees_are_looked_up_together(
    place: Place, together: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query for all models of a lock, and for each tree, however many files they have."""
    for number in range(30):
        place.write(f"stages/x/app/{number}.py", b"%d" % number)
    git(place, "init", "--quiet")
    git(place, "add", ".")
    monkeypatch.setattr(StatIndex, "hash", lambda _index, path: pytest.fail(f"{path} is looked up by itself"))
    checkout = place.checkout()
    assert len(checkout.models("requirements/models.lock")[0].files) == 1
    assert len(checkout.tree("stages/x/app").files) >= 30
    assert together[0] == 1
    assert together[1] >= 30
    assert len(together) == 2


def test_folder_of_a_model_that_became_a_file_is_refused(place: Place) -> None:
    (place.folder / "weights/w.bin").unlink()
    (place.folder / "weights").rmdir()
    place.write("weights", b"")
    assert error(place, "models").startswith("weights: model `m` has this file, which requirements/models.lock lacks")


@pytest.mark.parametrize("kind", ["missing", "folder", "parent"])
def test_missing_model_file_keeps_its_locked_key_or_is_refused_if_frozen(place: Place, kind: str) -> None:
    (before,) = place.checkout().models("requirements/models.lock")
    (place.folder / "weights/w.bin").unlink()
    if kind == "folder":
        (place.folder / "weights/w.bin").mkdir()
    elif kind == "parent":
        (place.folder / "weights").rmdir()
    assert place.checkout().models("requirements/models.lock") == (before,)
    assert place.events == []
    message = error(place, "models", ModelChanges.FROZEN)
    assert message.startswith("weights/w.bin: this file of model `m` (requirements/models.lock) is missing")


def test_missing_model_file_names_the_folder_that_is_called_otherwise_now(place: Place) -> None:
    (place.folder / "weights").rename(place.folder / "weights-2")
    with pytest.raises(DefinitionError) as caught:
        place.checkout(ModelChanges.FROZEN).models("requirements/models.lock")
    assert caught.value.hint == "its folder is not there, either; did you mean `weights-2`?"


# trees


def files(tree: Tree) -> dict[str, str]:
    return {row[0]: row[1] for row in tree.listing()}


@pytest.fixture
def repository(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git(place, "init", "--quiet")
    return place


def git(place: Place, *words: str) -> None:
    subprocess.run(["git", *words], cwd=place.folder, check=True)


def fill(place: Place) -> None:
    place.write("app/main.py", "x")
    place.write("app/run.sh", "y")
    place.write("app/deep/er/z.py", "z")
    (place.folder / "app/run.sh").chmod(0o775)
    (place.folder / "app/link").symlink_to("deep")
    (place.folder / "app/dangling").symlink_to("/nowhere")


ALL = {"main.py": "file", "run.sh": "exec", "deep/er/z.py": "file", "link": "link", "dangling": "link"}


@pytest.mark.tools
def test_tree_holds_files_tracked_by_git_and_warns_of_others(repository: Place) -> None:
    fill(repository)
    git(repository, "add", "app")
    repository.write("app/new.py", "n")
    repository.write("app/other.py", "n")
    tree = repository.checkout().tree("app")
    assert files(tree) == ALL
    assert [file.path for file in tree.files] == sorted(ALL)
    assert tree.files[-2].sha256 == FileHash.of(b"x")
    assert {row[0]: row[2] for row in tree.listing()}["dangling"] == "/nowhere"
    assert repository.notes() == ["app/new.py and 1 more: not tracked by git, so left out (git add it)"]


@pytest.mark.tools
def test_tree_has_the_same_key_without_git(repository: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(repository)
    git(repository, "add", "app")
    tracked = repository.checkout().tree("app")
    (repository.folder / ".git").rename(repository.folder / "not-git")
    repository.write("app/__pycache__/x.pyc", "p")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.folder.parent))
    assert repository.checkout().tree("app") == tracked
    assert repository.checkout().tree("app/main.py").listing() == [[".", "file", FileHash.of(b"x").hex]]


@pytest.mark.tools
def test_only_the_executable_bit_of_a_mode_matters(repository: Place) -> None:
    fill(repository)
    git(repository, "add", "app")
    before = repository.checkout().tree("app").listing()
    (repository.folder / "app/main.py").chmod(0o600)
    (repository.folder / "app/run.sh").chmod(0o744)
    assert repository.checkout().tree("app").listing() == before
    (repository.folder / "app/main.py").chmod(0o700)
    assert repository.checkout().tree("app").listing() != before


@pytest.mark.tools
def test_ignored_and_deleted_files_are_left_out_of_a_tree(repository: Place) -> None:
    fill(repository)
    repository.write(".containerignore", "# no tests\napp/deep\n**/*.sh\n!app/run.sh\napp/new*\n")
    git(repository, "add", "app")
    repository.write("app/new.py", "ignored, so not worth a word")
    repository.write("app/more.sh", "likewise")
    (repository.folder / "app/main.py").unlink()
    assert files(repository.checkout().tree("app")) == {"run.sh": "exec", "link": "link", "dangling": "link"}
    assert repository.events == []


@pytest.mark.tools
def test_single_file_is_a_tree(repository: Place) -> None:
    fill(repository)
    git(repository, "add", "app")
    assert repository.checkout().tree("app/run.sh").listing() == [[".", "exec", FileHash.of(b"y").hex]]


@pytest.mark.tools
def test_file_names_that_are_not_utf8_are_refused(repository: Place) -> None:
    repository.write("app/x", "x")
    Path(os.fsdecode(os.fsencode(repository.folder) + b"/app/\xff")).write_text("x")
    git(repository, "add", "app")
    with pytest.raises(DefinitionError, match=r"b'app/\\xff': the name of this file"):
        repository.checkout().tree("app")


def test_error_names_a_missing_tree(place: Place) -> None:
    with pytest.raises(DefinitionError, match=r"^stages/x/app: there is no such file or folder in the repository$"):
        place.checkout().tree("stages/x/app")


@pytest.mark.tools
def test_checkout_reads_each_lock_and_tree_once(repository: Place) -> None:
    fill(repository)
    repository.write("app/tracked", "x")
    git(repository, "add", "app")
    checkout = repository.checkout()
    first = checkout.tree("app")
    repository.write("app/untracked", "x")
    assert checkout.tree("app") is first
    assert checkout.artifacts("requirements/x.txt") is checkout.artifacts("requirements/x.txt")


def test_marks_of_the_encoding_are_no_content(place: Place) -> None:
    mark = b"\xef\xbb\xbf"
    for name in ("pyproject.toml", "stages/x/stage.toml", "requirements/models.toml"):
        place.write(name, mark + (place.folder / name).read_bytes())
    place.write("requirements/x.in", mark + b"./libs/tk\n")
    place.write("requirements/base.apt", mark + b"dash\n")
    place.write("libs/tk/pyproject.toml", mark + b'[project]\nname = "tk"\nversion = "1"\n')
    place.lock()
    assert [pin.name for pin in place.checkout().pins("requirements/x.txt")] == ["click"]
    for what in ("wheels", "apt", "models"):
        ask(place, what)
    place.write("libs/tk/pyproject.toml", mark + b'[project]\nname = "tk"\nversion = "2"\n')  # an input, by that line
    assert "older than its input" in error(place, "wheels")
    assert LockDrafts(place.folder).read("requirements/x.in") == "./libs/tk\n"


def test_submodule_of_a_package_that_is_not_fetched_is_named_and_not_a_stale_lock(place: Place) -> None:
    place.write("requirements/x.in", "./vendor/tk\n")
    place.write("vendor/tk/pyproject.toml", '[project]\nname = "tk"\nversion = "1"\n')
    place.write(".gitmodules", '[submodule "tk"]\n\tpath = vendor/tk\n')
    place.lock()
    ask(place, "wheels")
    (place.folder / "vendor/tk/pyproject.toml").unlink()
    found = error(place, "wheels")
    assert found.startswith("requirements/x.in:1: `./vendor/tk` is in a submodule that is not fetched")
    assert "git submodule update --init -- vendor/tk" in found
