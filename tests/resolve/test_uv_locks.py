"""Locks of uv: an image gets what ``uv sync`` would install; what is not in step is refused. With the real uv."""

import platform
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.locks.requirements_txt import check_agreement, parse_requirements
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.all_locks import check_locks, lock_all
from buildkit.resolve.project_locks import make_request
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from tests.installersettings import clear_installer_settings
from tests.packageindex import serve_indexes

ARCH = platform.machine()
PYTHONS = ("3.13.5", "3.12.1")
PROJECT = """
[project]
name = "app"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["alpha", "native", "core", "ruff-like; python_version < '3.13'", "legacy; sys_platform == 'win32'"]
[project.optional-dependencies]
cpu = ["torchy==2.9.1+cpu"]
cuda = ["torchy==2.9.1"]
full = ["delta[more]"]
[dependency-groups]
dev = ["pytesty", {include-group = "lint"}]
lint = ["linty"]
build = ["hatchy"]
old = ["beta<2"]
[tool.uv]
conflicts = [[{extra = "cpu"}, {extra = "cuda"}], [{group = "old"}, {extra = "full"}]]
[tool.uv.workspace]
members = ["packages/*"]
[tool.uv.sources]
core = {workspace = true}
torchy = [{index = "cpu", extra = "cpu"}]
[[tool.uv.index]]
name = "cpu"
url = "CPU"
explicit = true
[[tool.uv.index]]
url = "SIMPLE"
default = true
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
MEMBER = """
[project]
name = "{name}"
version = "0.2"
requires-python = ">=3.11"
dependencies = [{needs}]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
CHOICES = {
    "all": "",
    "cpu": 'extras = ["cpu"]',
    "cuda": 'extras = ["cuda"]',
    "extra of a dependency": 'extras = ["full"]',
    "groups": 'groups = ["dev", "old"]',
    "group alone": 'only-groups = ["build", "lint"]',
    "member": 'package = "api"',
    "extra and group": 'extras = ["cpu"]\ngroups = ["build"]',
    "without the project": "project = false",
}
OPTIONS = {
    "cpu": ("--extra", "cpu"),
    "cuda": ("--extra", "cuda"),
    "extra of a dependency": ("--extra", "full"),
    "groups": ("--group", "dev", "--group", "old"),
    "group alone": ("--only-group", "build", "--only-group", "lint"),
    "member": ("--package", "api"),
    "extra and group": ("--extra", "cpu", "--group", "build"),
}


@pytest.fixture(scope="module")
def indexes():
    projects = [
        ("alpha", "1.0", "beta", 'gamma; sys_platform == "win32"', 'unixy; sys_platform != "win32"'),
        ("beta", "1.0"), ("beta", "2.0"), ("gamma", "1.0"), ("unixy", "1.0"), ("legacy", "1.0"), ("hatchy", "1.0"),
        ("delta", "1.0", 'epsilon; extra == "more"'), ("epsilon", "1.0"), ("pytesty", "1.0"), ("linty", "1.0"),
        ("torchy", "2.9.1"), ("ruff_like", "1.0"),
    ]  # fmt: skip
    with serve_indexes() as server:
        for name, version, *requires in projects:
            server.add(name, version, *requires, **({"Provides_Extra": "more"} if name == "delta" else {}))
        server.add("torchy", "2.9.1+cpu", index="cpu")
        for tag in (
            f"cp313-cp313-manylinux_2_28_{ARCH}", f"cp312-cp312-manylinux_2_17_{ARCH}", "cp313-cp313-win_amd64",
            f"cp311-abi3-manylinux_2_17_{ARCH}", f"cp313-cp313-musllinux_1_2_{ARCH}",
        ):  # fmt: skip
            server.add("native", "1.0", tag=tag)
        server.add_sdist("native", "1.0")
        yield server


@pytest.fixture(scope="module", autouse=True)
def uv(tmp_path_factory):
    """Run uv without the settings of this host."""
    folder = tmp_path_factory.mktemp("uv")
    with pytest.MonkeyPatch.context() as patch:
        clear_installer_settings(patch)
        patch.setenv("UV_CACHE_DIR", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        yield run_uv


def run_uv(folder, *argv):
    argv = (sys.executable, "-m", "uv", "--no-progress", *argv)
    done = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory, indexes, uv):
    """The workspace, as uv has locked it."""
    folder = tmp_path_factory.mktemp("template")
    texts = {
        "pyproject.toml": PROJECT.replace("CPU", indexes.url("cpu")).replace("SIMPLE", indexes.url()),
        "packages/core/pyproject.toml": MEMBER.format(name="core", needs='"beta"'),
        "packages/api/pyproject.toml": MEMBER.format(name="api", needs='"hatchy", "alpha"'),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    uv(folder, "lock")
    return folder


@pytest.fixture
def project(tmp_path, template):
    """A workspace, locked by uv, with one stage."""
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    add_stage(folder, "0", "")
    return folder


def add_stage(folder, name, choice):
    stage = folder / f"stages/{name}/stage.toml"
    stage.parent.mkdir(parents=True, exist_ok=True)
    stage.write_text(f'summary = "x"\n[wheels]\nlocks = ["uv.lock"]\n{choice}\n')


def add_all(folder):
    for number, choice in enumerate(CHOICES.values()):
        add_stage(folder, str(number), choice)


def request_of(folder, python="3.13.5", stage=""):
    project = load_project(folder)
    project = replace(project, target=replace(project.target, python=python, glibc="2.36", arch=ARCH))
    return make_request(project, load_graph(folder), only=stage)


def lock(folder, **changes):
    return lock_all(request_of(folder, **changes), ignore_event)


def chosen(folder, stage, **changes):
    (choice,) = request_of(folder, stage=stage, **changes).choices
    return parse_wheels_lock((folder / choice.id).read_text(), choice.id).artifacts


def problem(folder, **changes):
    with pytest.raises(DefinitionError) as caught:
        lock(folder, **changes)
    return caught.value.problems[0]


@pytest.mark.parametrize("python", PYTHONS)
def test_an_image_gets_what_uv_would_install(project, uv, tmp_path, python):
    """Into a folder for that target: uv's choice of every package, version and file."""
    add_all(project)
    lock(project, python=python)
    for number, name in enumerate(CHOICES):
        options = ("--frozen", "--no-default-groups", "--no-emit-workspace", *OPTIONS.get(name, ()))
        listed = tmp_path / f"pylock.{number}.toml"
        listed.write_text(uv(project, "export", "--format", "pylock.toml", *options))
        site = tmp_path / f"site-{number}"
        platform_ = f"{ARCH}-manylinux_2_36"
        uv(project, "pip", "install", "--no-deps", "--target", str(site), "--python-version", python,
           "--python-platform", platform_, "--requirement", str(listed))  # fmt: skip
        installed = {
            (info.name.removesuffix(".dist-info"), (info / "WHEEL").read_text().split()[-1])
            for info in site.glob("*.dist-info")
        }
        artifacts = [one for one in chosen(project, str(number), python=python) if not one.path]
        files = {tuple(one.file.removesuffix(".whl").split("-", 2)) for one in artifacts}
        assert {(f"{name}-{version}", tag) for name, version, tag in files} == installed, name
        assert installed, name


def test_packages_of_the_workspace_are_built_in_the_builder(project):
    add_all(project)
    lock(project)
    local = {name: [one.path for one in chosen(project, str(n)) if one.path] for n, name in enumerate(CHOICES)}
    assert local["all"] == [".", "./packages/core"]
    assert local["member"] == ["./packages/api"]
    assert local["group alone"] == local["without the project"] == []


def test_the_index_of_a_source_is_asked_for_its_project_alone(project, indexes):
    """And at a build the file comes from where the lock says."""
    add_stage(project, "1", 'extras = ["cpu"]')
    indexes.asked.clear()
    lock(project)
    asked = {path for path in indexes.asked if path.startswith(("cpu/", "simple/"))}
    assert asked == set()  # the lock has everything, sizes included
    (torch,) = (one for one in chosen(project, "1") if one.name == "torchy")
    assert (torch.version, torch.file) == ("2.9.1+cpu", "torchy-2.9.1+cpu-py3-none-any.whl")
    assert torch.place.startswith(indexes.url("files/cpu/torchy"))
    assert torch.size == len(indexes.files["cpu/torchy"][torch.file])


def test_sidecars_are_stale_when_lock_or_needs_change_and_not_for_linters(project, uv):
    assert check_locks(request_of(project))
    lock(project)

    def check():
        changes = check_locks(request_of(project))
        return sorted({change.file for change in changes})

    assert check() == []
    assert lock(project) == ()
    pyproject = project / "pyproject.toml"
    original = pyproject.read_text()
    pyproject.write_text(f'{original}\n[tool.ruff]\nline-length = 100\n[tool.pytest.ini_options]\naddopts = "-x"\n')
    assert check() == []
    member = project / "packages/core/pyproject.toml"
    text = member.read_text()
    member.write_text(text.replace('"beta"', '"beta", "gamma"'))
    assert check() == ["uv.lock"]
    found = problem(project)
    assert found.file == "uv.lock"
    assert "is not in step with pyproject.toml" in found.what
    assert found.hint == "run: uv lock"
    uv(project, "lock")
    lock(project)
    assert check() == []
    assert "gamma" in [one.name for one in chosen(project, "0")]


def test_a_mirror_in_the_settings_of_this_machine_does_not_matter(project, monkeypatch, indexes):
    monkeypatch.setenv("UV_DEFAULT_INDEX", indexes.url("mirror"))
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace(f'[[tool.uv.index]]\nurl = "{indexes.url()}"', "[x]\nurl = 1"))
    lock(project)
    assert chosen(project, "0")


def test_what_a_choice_cannot_have_is_said_in_words_of_uv(project):
    for line, said in {
        'extras = ["cpu", "cuda"]': "declared conflicts",
        'extras = ["nope"]': "Extra `nope` is not defined",
        'groups = ["nope"]': "Group `nope` is not defined",
        'package = "nope"': "does not have a member nope",
    }.items():
        add_stage(project, "0", line)
        found = problem(project, stage="0")
        assert found.file == "uv.lock"
        assert said in found.what


def test_no_fitting_file_names_the_line_of_the_lock(project, indexes, uv):
    indexes.add("winny", "1.0", tag="cp313-cp313-win_amd64")
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('"native"', '"native", "winny"'))
    uv(project, "lock")
    found = problem(project)
    path, _, line = found.file.partition(":")
    assert path == "uv.lock"
    assert 'name = "winny"' in (project / path).read_text().splitlines()[int(line)]
    assert "winny==1.0: no wheel fits Python 3.13" in found.what


def test_locks_that_are_missing_or_no_toml(project):
    (project / "uv.lock").rename(project / "kept")
    found = problem(project)
    assert (found.file, found.hint) == ("uv.lock", "run: uv lock")
    (project / "uv.lock").write_text("version = \n")
    found = problem(project)
    assert (found.file, found.what) == ("uv.lock", "uv cannot read it (line 1, column 11)")
    assert found.hint == "if a merge left it so, run: git checkout HEAD -- uv.lock && uv lock"


def test_a_build_believes_only_what_the_lock_has(project, tmp_path):
    """The frozen checkout: stale or altered sidecars are refused, without a network."""
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def artifacts():
        loaded = load_project(project)
        loaded = replace(loaded, target=replace(loaded.target, python="3.13.5", glibc="2.36", arch=ARCH))
        return DiskCheckout(loaded, load_graph(project), StatIndex(ledger), ignore_event).artifacts("uv.wheels.toml")

    with pytest.raises(DefinitionError, match="which of its files the images get was not chosen yet"):
        artifacts()
    lock(project)
    assert [one.name for one in artifacts()][:2] == ["alpha", "app"]
    sidecar = project / "uv.wheels.toml"
    text = sidecar.read_text()
    digest = next(one.sha256.hex for one in artifacts() if one.name == "alpha")
    sidecar.write_text(text.replace(digest, "0" * 64))
    with pytest.raises(DefinitionError, match=r"alpha 1.0 has sha256:0000\w+, which uv.lock does not have"):
        artifacts()
    sidecar.write_text(text)
    (project / "uv.lock").write_text((project / "uv.lock").read_text() + "\n")
    with pytest.raises(DefinitionError, match=r"has changed, or what its projects need, since uv.wheels.toml"):
        artifacts()
    ledger.close()


def test_another_lock_of_the_image_must_agree(project, tmp_path):
    """Which is no matter of locking again."""
    pins = f"alpha==0.9 --hash=sha256:{'a' * 64}\n"
    ours = parse_requirements(pins, "requirements/more.txt")
    lock(project)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    loaded = load_project(project)
    loaded = replace(loaded, target=replace(loaded.target, python="3.13.5", glibc="2.36", arch=ARCH))
    theirs = DiskCheckout(loaded, load_graph(project), StatIndex(ledger), ignore_event).pins("uv.wheels.toml")
    ledger.close()
    (problem,) = check_agreement({"uv.lock": theirs, "requirements/more.txt": ours})
    number = 1 + (project / "uv.lock").read_text().splitlines().index('name = "alpha"')
    assert problem.what == f"alpha==0.9, but uv.lock:{number - 1} pins alpha==1.0"
    assert "nox -s lock" not in problem.hint


def test_a_lock_of_find_links_pins_no_bytes(tmp_path, indexes, uv):
    """uv writes no hashes of files in a folder; and it need not be in the settings to find that out."""
    links, folder = tmp_path / "links", tmp_path / "project"
    links.mkdir()
    file = next(name for name in indexes.files["simple/beta"] if "2.0" in name)
    (links / file).write_bytes(indexes.files["simple/beta"][file])
    folder.mkdir()
    project = '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["beta"]\n'
    (folder / "pyproject.toml").write_text(project)
    add_stage(folder, "0", "")
    uv(folder, "lock", "--no-index", "--find-links", str(links))
    found = problem(folder)
    assert found.what == "beta has no file with a SHA-256"
    assert "find-links" in found.hint


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("pyproject.toml", '[tool.uv]\nno-binary-package = ["Native"]'),
        ("uv.toml", 'no-binary-package = ["native"]'),
    ],
)
def test_no_binary_package_takes_the_sdist_and_a_changed_setting_makes_the_sidecar_stale(project, file, settings):
    lock(project)
    before = {one.name: one.file for one in chosen(project, "0")}
    assert before["native"].endswith(".whl")
    add_settings(project, file, settings)
    assert check_locks(request_of(project))
    lock(project)
    after = {one.name: one.file for one in chosen(project, "0")}
    assert after == {**before, "native": "native-1.0.tar.gz"}


def test_no_build_forbids_sdists_and_not_the_packages_of_the_repository(project, indexes, uv):
    add_settings(project, "pyproject.toml", "[tool.uv]\nno-build = true")
    lock(project)
    assert [one.path for one in chosen(project, "0") if one.path] == [".", "./packages/core"]
    indexes.add_sdist("sourced", "1.0")
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace('"native"', '"native", "sourced"'))
    uv(project, "lock", "--build")
    assert problem(project).what.endswith("the project's `no-build` allows no sdist")
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace("no-build = true", "no-binary = true"))
    found = problem(project).what
    assert found.endswith(": the project's `no-binary` allows no wheel, and there is no sdist")


def add_settings(folder, file, settings):
    """Add lines to a table of settings, or make the file with them."""
    path = folder / file
    table = settings.rpartition("\n")[0]
    text = path.read_text() if path.exists() else ""
    path.write_text(text.replace(f"{table}\n", f"{settings}\n", 1) if table else settings)
