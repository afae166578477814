"""poetry.lock: an image gets what Poetry would install.

``poetry/`` holds projects as the real Poetry locked them from the index that is served here, on port 8899:
``project`` and ``poetry-2`` by 2.5.1 (lock-version 2.1), ``poetry-1`` by 1.8.5 (2.0), ``poetry-1.2`` by 1.2.2 and
``poetry-1.1`` by 1.1.15 (both 1.1), which knows no groups but dev. What each choice installs was recorded from
``poetry install --no-root --dry-run`` of the same releases, on Python 3.11.7.
"""

import re
import shutil
import threading
from pathlib import Path

import pytest

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.target import Target
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.locks.poetry_lock import PoetryReader
from buildkit.locks.poetry_needs import specifier
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.choices import find_stale_choice, lock_choices
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.wheels import make_choose
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources
from buildkit.tools.indexes import Indexes
from tests.installersettings import clear_installer_settings
from tests.packageindex import serve_indexes

FIXTURES = Path(__file__).parent / "poetry"
CHOICES = {
    "main": {},
    "gpu": {"extras": ("gpu",)},
    "full and serve": {"extras": ("full",), "groups": ("serve",)},
    "dev and docs": {"groups": ("dev", "docs")},
    "serve alone": {"only_groups": ("serve",)},
}
INSTALLED = [
    (path.name, name)
    for path in sorted(FIXTURES.iterdir())
    for name, choice in CHOICES.items()
    if path.name != "poetry-1.1" or not {"groups", "only_groups"} & choice.keys()  # which came with 1.2
]
DEV = LockChoice(file="poetry.lock", groups=("dev",))
MAIN = "alpha==1.0 beta==2.0 core==0.2 native==1.0 unixy==1.0"
OLD = "alpha==1.0 beta==1.0 core==0.2 native==1.0 ruff-like==1.0 unixy==1.0"
MORE = {
    "main": "", "gpu": "torchy==2.9.2+cpu", "full and serve": "delta==1.0 epsilon==1.0 gamma==1.0",
    "dev and docs": "linty==1.0 pytesty==1.0",
}  # fmt: skip


@pytest.fixture(scope="module")
def indexes():
    projects = [
        ("alpha", "1.0", "beta", 'gamma; sys_platform == "win32"', 'unixy; sys_platform != "win32"'),
        ("beta", "1.0"), ("beta", "2.0"), ("gamma", "1.0"), ("unixy", "1.0"), ("epsilon", "1.0"), ("pytesty", "1.0"),
        ("linty", "1.0"), ("torchy", "2.9.1"), ("ruff_like", "1.0"),
    ]  # fmt: skip
    with serve_indexes(projects) as server:
        server.add("delta", "1.0", 'epsilon; extra == "more"', Provides_Extra="more")
        server.add("torchy", "2.9.2+cpu", index="cpu")
        tags = ("cp313-cp313-manylinux_2_28", "cp312-cp312-manylinux_2_17", "cp311-abi3-manylinux_2_17")
        for tag in (*(f"{tag}_x86_64" for tag in tags), "cp313-cp313-win_amd64"):
            server.add("native", "1.0", tag=tag)
        server.add_sdist("native", "1.0")
        yield server


@pytest.fixture(params=sorted(path.name for path in FIXTURES.iterdir()))
def project(request, tmp_path, indexes):
    folder = tmp_path / request.param
    shutil.copytree(FIXTURES / request.param, folder)
    lock = folder / "poetry.lock"
    lock.write_text(lock.read_text().replace("127.0.0.1:8899", f"127.0.0.1:{indexes.server_port}"))
    return folder


class Locker:
    """Locks a choice with real indexes, and says what was taken."""

    def __init__(self, folder, python="3.11.7", **choice):
        self.folder = folder
        self.choice = LockChoice(file="poetry.lock", **choice)
        target = Target(python=python, glibc="2.36", arch="x86_64")
        self.request = LockRequest(root=folder, target=target, choices=(self.choice,))
        self.drafts = LockDrafts(folder)

    def lock(self):
        sources = PackageSources(pip=IndexSettings(no_index=True), uv=IndexSettings())
        session = HttpSession(sources, RetryPolicy(threading.Event()))
        indexes = Indexes(sources, session, self.request.target)
        lock_choices(self.request, self.drafts, None, make_choose(lambda: indexes), ignore_event)
        self.drafts.write()
        return parse_wheels_lock((self.folder / self.choice.id).read_text(), "x").artifacts

    def problem(self):
        with pytest.raises(DefinitionError) as caught:
            self.lock()
        return caught.value.problems[0]


@pytest.fixture(autouse=True)
def _no_settings_of_this_host(monkeypatch):
    clear_installer_settings(monkeypatch)


@pytest.mark.parametrize(("project", "name"), INSTALLED, indirect=["project"])
def test_an_image_gets_what_poetry_would_install(project, name):
    artifacts = Locker(project, **CHOICES[name]).lock()
    found = sorted(f"{one.name}=={one.version}" for one in artifacts if one.path != ".")
    main = MAIN if project.name == "project" else OLD
    expected = "gamma==1.0" if name == "serve alone" else f"{main} {MORE[name]}"
    assert found == sorted(expected.split())
    assert [one.path for one in artifacts if one.path] == ([] if name == "serve alone" else ["./libs/core", "."])


def test_a_lock_of_poetry_1_1_has_extras_and_the_group_of_developers():
    """Those that its own release of Poetry installs: --no-dev --extras full, and no option."""
    folder = FIXTURES / "poetry-1.1"
    expected = {"full": f"{OLD} delta==1.0 epsilon==1.0", "dev": f"{OLD} pytesty==1.0"}
    for choice, name in ((LockChoice(file="poetry.lock", extras=("full",)), "full"), (DEV, "dev")):
        lock, project = ((folder / file).read_text() for file in ("poetry.lock", "pyproject.toml"))
        reader = PoetryReader(choice=choice, lock=lock, pyproject=project, describe_local=lambda _path: ("app", ""))
        pins = reader.read(Target(python="3.11.7", glibc="2.36", arch="x86_64"))
        assert sorted(f"{pin.name}=={pin.version}" for pin in pins if pin.path != ".") == sorted(expected[name].split())


def test_another_python_gets_other_versions_and_files(project):
    artifacts = {one.name: one for one in Locker(project, python="3.13.5").lock()}
    assert artifacts["beta"].version == "2.0"
    assert "ruff-like" not in artifacts
    assert artifacts["native"].file == "native-1.0-cp313-cp313-manylinux_2_28_x86_64.whl"


@pytest.mark.parametrize("value", ['"native"', '["native"]', "true"])
def test_no_binary_in_poetry_toml_takes_the_sdist(project, value):
    (project / "poetry.toml").write_text(f'[installer]\nno-binary = {value}\nonly-binary = ["other"]\n')
    if value == "true":
        assert "the project's `no-binary` allows no wheel" in Locker(project).problem().what
        return
    artifacts = {one.name: one.file for one in Locker(project).lock()}
    assert artifacts["native"] == "native-1.0.tar.gz"
    assert artifacts["alpha"].endswith(".whl")


def test_the_index_of_a_source_is_asked_for_its_packages_alone(project, indexes):
    """And a build takes the file from there, whatever the settings."""
    indexes.asked.clear()
    artifacts = {one.name: one for one in Locker(project, extras=("gpu",)).lock()}
    assert [path for path in indexes.asked if path.startswith("cpu/")] == ["cpu/torchy"]
    assert "simple/torchy" not in indexes.asked
    assert artifacts["torchy"].place.startswith(indexes.url("files/cpu/torchy/torchy-2.9.2"))


def test_a_lock_that_is_not_in_step_is_refused(project):
    locker = Locker(project)
    locker.lock()
    assert find_stale_choice(locker.request, LockDrafts(project), locker.choice) is None
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text + "\n[tool.ruff]\nline-length = 80\n")
    assert find_stale_choice(locker.request, LockDrafts(project), locker.choice) is None
    (project / "pyproject.toml").write_text(text.replace("pytesty", "gamma"))
    problem = find_stale_choice(locker.request, LockDrafts(project), locker.choice)
    assert problem is not None
    problem = Locker(project).problem()
    assert "is not in step with pyproject.toml" in problem.what
    assert problem.hint == "run: poetry lock"


def test_unknown_extras_and_groups_and_old_locks_are_named(project):
    assert Locker(project, extras=("nope",)).problem().what == "its project has no extra `nope`"
    groups = "dev, main" if project.name == "poetry-1.1" else "dev, docs, main, serve"
    assert groups in Locker(project, groups=("nope",)).problem().hint
    lock = project / "poetry.lock"
    text = lock.read_text()
    lock.write_text(re.sub('lock-version = ".*"', 'lock-version = "1.0"', text))
    assert "is not of lock-version 1.1 or 2" in Locker(project).problem().what
    lock.write_text(text.replace('type = "directory"', 'type = "git"'))
    problem = Locker(project).problem()
    assert "core is in a repository that only https or ssh could reach" in problem.what
    path, _, line = problem.file.partition(":")
    assert (project / path).read_text().splitlines()[int(line)] == 'name = "core"'


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("^1.2.3", ">=1.2.3,<2"), ("^0.2.3", ">=0.2.3,<0.3"), ("^0.0.3", ">=0.0.3,<0.0.4"), ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"), ("~1.2", ">=1.2,<1.3"), ("~1", ">=1,<2"), ("1.2", "==1.2"), ("1.*", "==1.*"),
        ("*", ""), ("", ""), (">=1.0, <2.0", ">=1.0,<2.0"), (">= 1.0 <2", ">=1.0,<2"), ("~=1.4", "~=1.4"),
        ("^1.0 || ^2.0", ">=1.0,<2 || >=2.0,<3"), ("!=1.5", "!=1.5"),
    ],
)  # fmt: skip
def test_constraints_mean_what_poetry_says(constraint, expected):
    """As in https://python-poetry.org/docs/dependency-specification/#version-constraints."""
    assert specifier(constraint) == expected
