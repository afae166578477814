"""Sdists and packages of the repository are compiled in a builder: a Debian root with a compiler, without network."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import short_folder
from tests.e2e.nativeproject import adopt_native
from tests.e2e.tinyproject import Tiny
from tests.gitserver import GitServer, serve_git
from tests.packageindex import PackageIndexes, serve_indexes
from tests.standalone import can_make, make_standalone_python

pytestmark = [pytest.mark.tools, pytest.mark.network]

_IMPORT = "import fast, source_only as s, source_native as n; print(fast.add(40, 2), s.WORD, n.add(1, 1))"


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A project with a builder, locked by the real session: its root comes from the Debian mirror, once a suite."""
    folder = short_folder()
    tiny = Tiny(folder, links=folder / "links")
    adopt_native(tmp_path_factory, tiny, folder / "links")
    tiny.git("init", "--quiet")
    tiny.git("add", ".")
    tiny.git("commit", "--quiet", "--message=All of it")
    yield tiny
    tiny.remove()


@pytest.fixture
def fresh(native: Tiny) -> Iterator[Tiny]:
    """The project as it was committed; root, builder and wheels stay in its cache from test to test."""
    yield native
    native.git("checkout", "--quiet", ".")
    native.git("clean", "--quiet", "-fd")


@pytest.fixture
def index() -> Iterator[PackageIndexes]:
    """An index on loopback."""
    with serve_indexes() as server:
        yield server


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[GitServer]:
    """A git server on loopback."""
    with serve_git(tmp_path) as server:
        yield server


def python(tiny: Tiny, code: str) -> str:
    return tiny.run_image("app", "/opt/venv/bin/python", "-I", "-c", code)


def test_sdists_and_packages_of_the_repository_are_compiled_once(fresh: Tiny) -> None:
    first = fresh.build("app")
    assert re.search(r"compile +fast 1.0", first.text)
    assert re.search(r"compile +source-only 1.0", first.text)
    assert python(fresh, _IMPORT) == "42 sdist 2\n"
    assert python(fresh, "import importlib.metadata as m; print(m.version('fast'))") == "1.0\n"
    assert len(fresh.rows("wheels")) == 2
    again = fresh.build("app")
    assert again.built() == {}
    assert "compile" not in again.text
    assert fresh.left_over() == []


def test_package_of_a_git_repository_is_compiled_from_its_commit_alone(fresh: Tiny, repositories: GitServer) -> None:
    """Its version is computed: by its build backend in the builder, to lock it and to compile it."""
    setup = '[project]\nname = "kit"\ndynamic = ["version"]\n[tool.setuptools]\npy-modules = ["kit"]\n'
    setup += '[tool.setuptools.dynamic]\nversion = { attr = "kit.VERSION" }\n'
    build = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    files = {"packages/kit/pyproject.toml": build + setup, "packages/kit/kit.py": "VERSION = '3.1'\n"}
    commit = repositories.commit("kit", files)
    place = f"git+{repositories.url('kit')}@main#subdirectory=packages/kit"
    inputs = (fresh.project / "requirements/app.in").read_text()
    fresh.write("requirements/app.in", f"{inputs}kit @ {place}\n")
    fresh.lock()
    assert f"@{commit}#subdirectory=packages/kit" in (fresh.project / "requirements/app.txt").read_text()
    repositories.commit("kit", {**files, "packages/kit/kit.py": "VERSION = '4'\n"})
    fresh.build("app")
    shown = "import kit; import importlib.metadata as m; print(kit.VERSION, m.version('kit'))"
    assert python(fresh, shown) == "3.1 3.1\n"
    assert f"@{commit}" in fresh.run("sbom", "app").text
    repositories.asked.clear()
    assert fresh.build("app").built() == {}
    assert repositories.asked == []


@pytest.mark.skipif(
    not can_make(), reason="an archive of Python is made of Debian's own Python, its headers and patchelf"
)
def test_sdists_are_compiled_for_a_python_of_its_own_beside_debians(fresh: Tiny, tmp_path: Path) -> None:
    standalone = make_standalone_python(tmp_path)
    for name, value in standalone.env().items():
        fresh.env[name] = value
    fresh.replace("pyproject.toml", 'python = "3.13"', f'python = "{standalone.minor}"')
    fresh.replace("pyproject.toml", '"/usr/bin/python3.13"', '"standalone"')
    fresh.lock()
    fresh.build("app")
    assert python(fresh, _IMPORT) == "42 sdist 2\n"
    assert python(fresh, "import fast, sys; print(sys.base_prefix, fast.__file__)").startswith("/opt/python /opt/venv/")
    assert fresh.run_image("app", "/usr/bin/python3", "--version").startswith("Python 3.13")


def test_changed_source_recompiles_only_its_package(fresh: Tiny) -> None:
    first = fresh.build("app")
    fresh.replace("libs/fast/src/fast.c", "one + other", "one * other")
    changed = fresh.build("app")
    assert list(changed.built().values()) == ["fast recompiled: libs/fast/src/fast.c changed"]
    assert "source-only 1.0" not in "".join(line for line in changed.text.splitlines() if "compile " in line)
    assert python(fresh, _IMPORT) == "80 sdist 2\n"
    fresh.replace("libs/fast/src/fast.c", "one * other", "one + other")
    back = fresh.build("app")
    assert back.built() == {}
    assert back.digests() == first.digests()


def test_compiled_wheel_does_not_depend_on_the_checkout_folder(fresh: Tiny) -> None:
    first = fresh.build("app")
    shutil.rmtree(fresh.cache / "files")
    for table in ("wheels", "layers"):
        forget(fresh, table, keep_root=table == "layers")
    elsewhere = fresh.folder / "else where"
    shutil.copytree(fresh.project, elsewhere)
    fresh.project, before = elsewhere, fresh.project
    try:
        again = fresh.build("app", TZ="Asia/Tokyo")
    finally:
        fresh.project = before
        shutil.rmtree(elsewhere)
    assert "compile " in again.text
    assert again.digests() == first.digests()


def test_builder_has_no_network(fresh: Tiny, listener: tuple[int, list[object]]) -> None:
    port, callers = listener
    call = f'import socket\nsocket.create_connection(("127.0.0.1", {port})).close()\n'
    fresh.write("libs/fast/setup.py", f"{call}from setuptools import setup\nsetup()\n")
    fresh.git("add", ".")
    fresh.lock()
    ended = fresh.run("build-app")
    fresh.git("rm", "--quiet", "--cached", "libs/fast/setup.py")
    assert ended.code == 1
    assert "fast 1.0: its wheel could not be compiled in builder" in ended.errors[-1]  # after pip's own words
    assert ended.text.count("ConnectionRefusedError: ") == 1
    assert callers == []
    assert fresh.left_over() == []


_EVIL = """import os, pathlib, socket

def _dependencies():
    found = [name for name in os.environ if name == "MARK"]
    found += [place for place in ("{marker}", "{project}") if os.path.exists(place)]
    try:
        socket.create_connection(("127.0.0.1", {port})).close()
        found.append("network")
    except OSError:
        pass
    if os.path.isdir("{folder}"):
        pathlib.Path("{marker}").write_text("ran")
    if found:
        raise SystemExit(f"this backend saw {{found}}")
    return ["Requires-Dist: source-only==1.0"]

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    place = pathlib.Path(folder, "evil-3.0.dist-info")
    place.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: evil", "Version: 3.0", *_dependencies()]
    (place / "METADATA").write_text("\\n".join(lines) + "\\n")
    (place / "WHEEL").write_text("Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    return place.name

get_requires_for_build_wheel = lambda config_settings=None: _dependencies() and []
build_wheel = None
"""


def test_build_backend_runs_in_the_builder_when_a_package_is_locked(
    fresh: Tiny, listener: tuple[int, list[object]]
) -> None:
    """An in-tree build backend sees neither the host's files nor its environment or network."""
    port, callers = listener
    marker = fresh.folder / "marker"
    table = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    fresh.write("libs/evil/pyproject.toml", f'{table}[project]\nname = "evil"\ndynamic = ["version", "dependencies"]\n')
    evil = _EVIL.format(port=port, marker=marker, folder=fresh.folder, project=fresh.project / "pyproject.toml")
    fresh.write("libs/evil/backend.py", evil)
    fresh.write("requirements/app.in", "./libs/evil\n")
    for lock in ("build.txt", "build.wheels.toml"):  # the builder's own are made first
        (fresh.project / "requirements" / lock).unlink()
    ended = fresh.run("lock", MARK="of the caller")
    assert ended.code == 0, ended.text
    assert "describe ./libs/evil" in ended.text
    assert "build backends run in builder with" in ended.text
    assert (fresh.project / "requirements/app.txt").read_text().splitlines()[3] == "./libs/evil"
    assert "source-only==1.0" in (fresh.project / "requirements/app.txt").read_text()
    assert not marker.exists()
    assert callers == []
    fresh.replace("libs/evil/backend.py", "if found:", "if True:")
    fresh.write("requirements/app.in", "./libs/evil\nsource-only\n")
    failing = fresh.run("lock")
    assert failing.code == 1
    assert "./libs/evil: its metadata could not be computed in builder" in failing.errors[-1]
    assert failing.text.count("this backend saw []") == 1
    assert fresh.left_over() == []


_WORKSPACE = """
requires-python = ">=3.11"
dependencies = ["fast", "source-only"]
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
py-modules = ["own"]
[tool.uv.workspace]
members = ["libs/*"]
[tool.uv.sources]
fast = { workspace = true }
"""


def test_uv_lock_is_all_that_an_image_needs(fresh: Tiny, index: PackageIndexes) -> None:
    """The project itself, a member of its workspace and an sdist, as uv has locked them."""
    fresh.replace("pyproject.toml", 'version = "1.0"\n', f'version = "1.0"{_WORKSPACE}')
    fresh.write("own.py", "import fast, source_only\nprint(fast.add(1, 2), source_only.WORD)\n")
    for file in (fresh.folder / "links").iterdir():  # uv asks the sdist's build system, too
        name = file.name.partition("-")[0].replace("_", "-")
        index.files[f"simple/{name}"] = {file.name: file.read_bytes()}
    uv = (sys.executable, "-m", "uv", "lock", "--quiet", "--default-index", index.url())
    subprocess.run(uv, check=True, cwd=fresh.project, env=fresh.env | {"UV_PYTHON_DOWNLOADS": "never"})
    fresh.replace("stages/app/stage.toml", "requirements/app.txt", "uv.lock")
    fresh.git("add", ".")
    assert "uv.lock: which of its files" in fresh.refuse("app", "--frozen", code=2)
    fresh.lock()
    fresh.git("add", ".")
    built = fresh.build("app", "--frozen")
    assert python(fresh, "import own") == "3 sdist\n"
    assert {"app/tiny", "app/fast"} <= built.digests().keys()
    fresh.replace("own.py", "add(1, 2)", "add(2, 2)")
    changed = fresh.build("app", "--frozen")
    assert list(changed.built()) == ["app/tiny"]
    assert python(fresh, "import own") == "4 sdist\n"
    fresh.replace("pyproject.toml", '["fast", "source-only"]', '["fast"]')
    ended = fresh.run("lock")
    assert ended.code == 2
    assert "uv.lock: is not in step with pyproject.toml" in ended.text
    fresh.git("reset", "--quiet")
    assert fresh.left_over() == []


def test_compiler_error_is_shown(fresh: Tiny) -> None:
    fresh.build("app")
    before = fresh.snapshot()
    fresh.replace("libs/fast/src/fast.c", "long one", "lung one")
    ended = fresh.run("build-app")
    assert ended.code == 1
    assert "fast 1.0: its wheel could not be compiled in builder" in ended.errors[-1]
    assert "lung" in ended.text
    assert fresh.snapshot() == before
    assert fresh.left_over() == []


def test_bytecode_is_compiled_by_the_interpreter_of_the_image(fresh: Tiny) -> None:
    fresh.build("app")
    code = "import source_only, os; print(source_only.__cached__, os.path.exists(source_only.__cached__))"
    path = "/opt/venv/lib/python3.13/site-packages/__pycache__/source_only.cpython-313.pyc"
    assert python(fresh, code) == f"{path} True\n"
    fresh.replace("pyproject.toml", "[tool.buildkit]", "[tool.buildkit]\nbytecode-root = 'nothing'")
    assert "there is no stage `nothing`" in fresh.refuse("app", code=2)


def test_missing_mmdebstrap_is_reported_with_a_hint(fresh: Tiny) -> None:
    folder = fresh.folder / "bin"
    folder.mkdir()
    for place in fresh.env["PATH"].split(":"):
        for path in Path(place).glob("*"):
            if path.name != "mmdebstrap" and not (folder / path.name).is_symlink():
                (folder / path.name).symlink_to(path)
    empty = str(fresh.folder / "empty")
    message = fresh.refuse("base", "--no-import", code=1, PATH=str(folder), BUILDKIT_CACHE=empty)
    assert "mmdebstrap is not installed" in message
    assert "apt-get install mmdebstrap" in message


def test_pin_missing_from_the_archive_is_reported(fresh: Tiny) -> None:
    lock = fresh.project / "requirements/base.apt.lock"
    lock.write_text(re.sub(r"^dash=\S+", "dash=0.0.1-1", lock.read_text(), flags=re.MULTILINE))
    message = fresh.refuse("base", "--no-import", "--frozen", code=1)
    assert "dash=0.0.1-1" in message
    assert "nox -s lock -- --upgrade" in message
    assert fresh.left_over() == []


def forget(tiny: Tiny, table: str, *, keep_root: bool) -> None:
    """Delete rows of the ledger, so that their layers are rebuilt."""
    with closing(sqlite3.connect(tiny.cache / "ledger.sqlite")) as db, db:
        db.execute(f"DELETE FROM {table}" + (" WHERE kind <> 'root'" if keep_root else ""))
