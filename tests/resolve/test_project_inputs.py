"""A pyproject.toml as an input: extras and groups are resolved by the real uv, and linters make no lock stale."""

from dataclasses import replace

import pytest

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.errors import DefinitionError, ToolError
from buildkit.events import ignore_event
from buildkit.locks.wheels_lock import parse_wheels_lock, wheels_lock_path
from buildkit.resolve.all_locks import check_locks, lock_all
from buildkit.resolve.project_locks import make_request
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from tests.installersettings import clear_installer_settings
from tests.packageindex import serve_indexes

PROJECT = """
[project]
name = "app"
version = "0.1"
dependencies = ["alpha"]
[project.optional-dependencies]
gpu = ["torchy"]
[dependency-groups]
dev = ["pytesty", {include-group = "lint"}]
lint = ["linty"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
CASES = {
    "": {".": "0.1", "alpha": "1.0", "beta": "1.0"},
    'extras = ["gpu"]': {".": "0.1", "alpha": "1.0", "beta": "1.0", "torchy": "1.0"},
    'groups = ["dev"]': {".": "0.1", "alpha": "1.0", "beta": "1.0", "linty": "1.0", "pytesty": "1.0"},
    'only-groups = ["lint"]': {"linty": "1.0"},
    'project = false\nextras = ["gpu"]': {"alpha": "1.0", "beta": "1.0", "torchy": "1.0"},
}


@pytest.fixture(scope="module", autouse=True)
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    projects = [("alpha", "1.0", "beta"), *((name, "1.0") for name in ("beta", "torchy", "pytesty", "linty"))]
    with serve_indexes(projects) as server, pytest.MonkeyPatch.context() as patch:
        clear_installer_settings(patch)
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        patch.setenv("UV_CACHE_DIR", str(folder / "cache"))
        patch.setenv("UV_DEFAULT_INDEX", server.url())
        yield server


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "project"
    (folder / "stages/app").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    choose(folder, "")
    return folder


def choose(root, choice):
    text = f'summary = "x"\n[wheels]\nlocks = ["pyproject.toml"]\n{choice}\n'
    (root / "stages/app/stage.toml").write_text(text)


def request_of(root):
    project = load_project(root)
    project = replace(project, target=replace(project.target, python="3.13.5", glibc="2.36", arch="x86_64"))
    return make_request(project, load_graph(root))


def lock(root, *, check=False):
    return check_locks(request_of(root)) if check else lock_all(request_of(root), ignore_event)


@pytest.mark.parametrize("choice", CASES)
def test_extras_and_groups_are_resolved_and_locked(root, choice):
    choose(root, choice)
    lock(root)
    (name,) = load_graph(root).stages["app"].wheels
    path = wheels_lock_path(name)
    artifacts = parse_wheels_lock((root / path).read_text(), path).artifacts
    assert {one.path or one.name: one.version for one in artifacts} == CASES[choice]
    assert str(root) not in (root / name).read_text()
    assert "/inputs/" not in (root / name).read_text()
    assert lock(root, check=True) == ()
    assert lock(root) == ()


def test_the_lock_is_stale_for_dependencies_and_not_for_linters(root, tmp_path):
    lock(root)
    pyproject = root / "pyproject.toml"
    pyproject.write_text(f"{PROJECT}\n[tool.ruff]\nline-length = 100\n")
    assert lock(root, check=True) == ()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    project = load_project(root)
    project = replace(project, target=replace(project.target, python="3.13.5", glibc="2.36", arch="x86_64"))

    def artifacts():
        checkout = DiskCheckout(project, load_graph(root), StatIndex(ledger), ignore_event)
        return [one.name for one in checkout.artifacts("pyproject.txt")]

    assert artifacts() == ["alpha", "app", "beta"]
    pyproject.write_text(PROJECT.replace('["alpha"]', '["alpha", "linty"]'))
    with pytest.raises(DefinitionError, match=r"pyproject.txt: the lock is older than its input"):
        artifacts()
    assert [change.file for change in lock(root, check=True)] == ["pyproject.txt"]
    lock(root)
    assert artifacts() == ["alpha", "app", "beta", "linty"]
    ledger.close()


@pytest.mark.parametrize(
    ("choice", "what"),
    [('extras = ["nope"]', "has no extra `nope`"), ('groups = ["nope"]', "has no group `nope`")],
)
def test_what_the_project_lacks_is_named_with_its_file(root, choice, what):
    choose(root, choice)
    with pytest.raises(DefinitionError) as caught:
        lock(root)
    problem = caught.value.problems[0]
    assert (problem.file, problem.what) == ("pyproject.toml", what)


def test_a_package_that_no_index_has_is_reported_without_a_file_that_is_nowhere(root):
    (root / "pyproject.toml").write_text(PROJECT.replace('["alpha"]', '["nowhere-to-be-found"]'))
    with pytest.raises(ToolError, match="locking pyproject with uv") as caught:
        lock(root)
    assert "pyproject.in" not in f"{caught.value} {caught.value.output}"
