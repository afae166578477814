"""Packages of git repositories in requirements, uv.lock, pylock.toml and poetry.lock, from a real git server."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.declare.graph import load_graph
from buildkit.declare.project import Project, load_project
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.locks.pins import Artifact
from buildkit.locks.poetry_lock import content_hash
from buildkit.locks.wheels_lock import parse_wheels_lock
from buildkit.resolve.all_locks import Renewed, check_locks, lock_all
from buildkit.resolve.project_locks import make_request
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex
from tests.gitserver import GitServer, serve_git

KIT = '[project]\nname = "{name}"\nversion = "{version}"\ndependencies = []\n'
APP = '[project]\nname = "app"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = ["kit", "part"]\n'
SOURCES = """[tool.uv.sources]
kit = {{ git = "{url}", tag = "v1" }}
part = {{ git = "{url}", rev = "{commit}", subdirectory = "packages/part" }}
"""


@pytest.fixture(scope="module", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run uv and git without the settings of this host."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith(("PIP_", "UV_", "GIT_")):
                patch.delenv(name)
        for name, value in {
            "PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder),
            "HOME": str(folder), "UV_NO_INDEX": "1", "PIP_NO_INDEX": "1", "BUILDKIT_CACHE": str(folder / "built"),
        }.items():  # fmt: skip
            patch.setenv(name, value)
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with serve_git(tmp_path / "served") as served:
        yield served


@pytest.fixture
def commit(server: GitServer) -> str:
    """The commit of the tag v1; the branch is one ahead."""
    files = {
        "pyproject.toml": KIT.format(name="kit", version="1.0"),
        "kit.py": "",
        "packages/part/pyproject.toml": KIT.format(name="part", version="0.5"),
    }
    made = server.commit("kit", files)
    server.tag("kit", "v1")
    server.commit("kit", {**files, "pyproject.toml": KIT.format(name="kit", version="2.0")})
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "requirements").mkdir(parents=True)
    return place


def stage(folder: Path, lock: str) -> None:
    place = folder / "stages/app/stage.toml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f'summary = "x"\n[wheels]\nlocks = ["{lock}"]\n')


def project_of(folder: Path) -> Project:
    project = load_project(folder)
    target = replace(project.target, python="3.13.5", glibc="2.36", arch=platform.machine())
    return replace(project, target=target)


def lock(folder: Path, *, upgrade: bool = False, check: bool = False) -> list[str]:
    request = make_request(project_of(folder), load_graph(folder))
    changes = check_locks(request) if check else lock_all(request, ignore_event, Renewed(all=upgrade))
    return [change.file for change in changes]


def locked(folder: Path, sidecar: str) -> dict[str, Artifact]:
    return {one.name: one for one in parse_wheels_lock((folder / sidecar).read_text(), sidecar).artifacts}


def problem(folder: Path) -> str:
    with pytest.raises(DefinitionError) as caught:
        lock(folder)
    return str(caught.value)


def test_requirements_name_a_revision_and_the_lock_its_commit(folder: Path, server: GitServer, commit: str) -> None:
    url = server.url("kit")
    lines = [f"kit @ git+{url}@v1", f"part @ git+{url}@main#subdirectory=packages/part"]
    (folder / "requirements/app.in").write_text("\n".join(lines) + "\n")
    stage(folder, "requirements/app.txt")
    (folder / "pyproject.toml").write_text('[tool.buildkit]\nname = "p"\n')
    lock(folder)
    text = (folder / "requirements/app.txt").read_text()
    assert f"kit @ git+{url}@{commit}\n" in text
    found = locked(folder, "requirements/app.wheels.toml")
    assert (found["kit"].version, found["part"].version) == ("1.0", "0.5")
    assert found["kit"].file == f"kit-{commit[:12]}.tar"
    assert found["kit"].place == f"git+{url}@{commit}"
    assert found["part"].place.endswith("#subdirectory=packages/part")
    assert lock(folder, check=True) == []
    server.asked.clear()
    (folder / "requirements/app.txt").unlink()
    lock(folder)
    assert locked(folder, "requirements/app.wheels.toml") == found


def test_uv_lock_means_what_uv_means_and_a_build_believes_no_other_commit(
    folder: Path, server: GitServer, commit: str, tmp_path: Path
) -> None:
    sources = SOURCES.format(url=server.url("kit"), commit=commit)
    (folder / "pyproject.toml").write_text(f"{APP}{sources}[tool.uv]\npackage = false\n")
    subprocess.run((sys.executable, "-m", "uv", "lock", "--quiet"), cwd=folder, check=True)
    stage(folder, "uv.lock")
    lock(folder)
    found = locked(folder, "uv.wheels.toml")
    assert {name: (one.version, one.place.partition("@")[2]) for name, one in found.items()} == {
        "kit": ("1.0", commit),
        "part": ("0.5", f"{commit}#subdirectory=packages/part"),
    }
    assert found["kit"].sha256 == found["part"].sha256, "one tar of one commit"
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def read() -> list[str]:
        checkout = DiskCheckout(project_of(folder), load_graph(folder), StatIndex(ledger), ignore_event)
        return [one.name for one in checkout.artifacts("uv.wheels.toml")]

    assert read() == ["kit", "part"]
    sidecar = folder / "uv.wheels.toml"
    sidecar.write_text(sidecar.read_text().replace(commit, "b" * 40))
    with pytest.raises(DefinitionError, match=r"kit 1\.0 has .*, which uv.lock does not have"):
        read()
    ledger.close()


def test_pylock_and_poetry_lock_name_the_same_commit(folder: Path, server: GitServer, commit: str) -> None:
    url = server.url("kit")
    (folder / "pylock.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "kit"\nversion = "1.0"\n'
        f'vcs = {{ type = "git", url = "{url}", requested-revision = "v1", commit-id = "{commit}" }}\n'
    )
    stage(folder, "pylock.toml")
    lock(folder)
    first = locked(folder, "pylock.wheels.toml")["kit"]
    pyproject = '[tool.poetry]\nname = "app"\nversion = "1"\npackage-mode = false\n[tool.poetry.dependencies]\n'
    pyproject += f'kit = {{ git = "{url}" }}\n'
    (folder / "pyproject.toml").write_text(pyproject)
    hashed = content_hash({"tool": {"poetry": {"dependencies": {"kit": {"git": url}}}}})
    (folder / "poetry.lock").write_text(
        '[[package]]\nname = "kit"\nversion = "1.0"\nfiles = []\n[package.source]\ntype = "git"\n'
        f'url = "{url}"\nreference = "v1"\nresolved_reference = "{commit}"\n'
        f'[metadata]\nlock-version = "2.0"\npython-versions = "*"\ncontent-hash = "{hashed}"\n'
    )
    stage(folder, "poetry.lock")
    lock(folder)
    assert locked(folder, "poetry.wheels.toml")["kit"] == first
    assert first.sha256 != FileHash.of(b"")


def test_what_is_no_commit_or_no_package_is_named_at_its_line(folder: Path, server: GitServer, commit: str) -> None:
    (folder / "pyproject.toml").write_text('[tool.buildkit]\nname = "p"\n')
    lines = f'[[packages]]\nname = "kit"\nvcs = {{ type = "git", url = "file:///srv/kit", commit-id = "{commit}" }}\n'
    (folder / "pylock.toml").write_text(f'lock-version = "1.0"\ncreated-by = "x"\n{lines}')
    stage(folder, "pylock.toml")
    assert problem(folder) == (
        "pylock.toml:3: kit is in a repository that only https or ssh could reach from everywhere"
    )
    text = (folder / "pylock.toml").read_text()
    (folder / "pylock.toml").write_text(
        text.replace("file:///srv/kit", server.url("kit")).replace(" }", ', subdirectory = "docs" }')
    )
    assert "has no pyproject.toml and no setup.py at docs" in problem(folder)
    (folder / "pylock.toml").write_text(text.replace('"git"', '"hg"'))
    assert "kit is in a repository of hg, and only git is read; keep it below ./libs" in problem(folder)


def test_pyproject_as_an_input_takes_repositories_of_its_sources_without_the_project(
    folder: Path, server: GitServer, commit: str
) -> None:
    """uv applies that table to the project's own dependencies alone, and the project is left out."""
    sources = SOURCES.format(url=server.url("kit"), commit=commit)
    text = APP.replace('"kit"', "\"kit>=1 ; python_version > '3'\"")
    (folder / "pyproject.toml").write_text(f'{text}[dependency-groups]\nextra = ["part"]\n{sources}')
    for choice, names in (("project = false", ["kit", "part"]), ('only-groups = ["extra"]', ["part"])):
        stage(folder, "pyproject.toml")
        with (folder / "stages/app/stage.toml").open("a") as file:
            file.write(choice)
        lock(folder)
        (sidecar,) = {path.name for path in folder.glob("*.wheels.toml")}
        found = locked(folder, sidecar)
        assert sorted(found) == names
        assert {one.place.partition("#")[0] for one in found.values()} == {f"git+{server.url('kit')}@{commit}"}
        (folder / sidecar).unlink()


def test_dependency_that_no_lock_can_hold_names_the_input_and_not_a_lock_that_is_nowhere(
    folder: Path, server: GitServer, commit: str
) -> None:
    place = f"git+file://{server.folder}/kit.git@{commit}"
    (folder / "libs/tk").mkdir(parents=True)
    text = f'[project]\nname = "tk"\nversion = "1"\ndependencies = ["kit @ {place}"]\n'
    (folder / "libs/tk/pyproject.toml").write_text(text)
    (folder / "pyproject.toml").write_text('[tool.buildkit]\nname = "p"\n')
    (folder / "requirements/app.in").write_text("./libs/tk\n")
    stage(folder, "requirements/app.txt")
    said = "the package is in a repository that only https or ssh could reach from everywhere"
    assert problem(folder) == f"requirements/app.in: what it resolves to cannot be locked: {said}"
    assert not (folder / "requirements/app.txt").exists()
