"""The images' own Python: on a root without any, from a mirror, locked and the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny, one_error
from tests.e2e.tinyroot import push_root
from tests.standalone import StandalonePython, can_make, libc_files, make_standalone_python

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(
        not can_make(), reason="an archive of Python is made of Debian's own Python, its headers and patchelf"
    ),
]
_LOCK = "requirements/python.lock"
_SAY = """
import alpha, json, os, ssl, sqlite3, sys, sysconfig
print(alpha.VERSION, *sys.version_info[:2], sys.base_prefix)
for module in (alpha, json):
    print(os.path.basename(module.__cached__), os.path.exists(module.__cached__))
print(*sorted(os.listdir("/opt/python/bin")))
print(sysconfig.get_config_var("CC").split()[0])
"""


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> StandalonePython:
    return make_standalone_python(tmp_path_factory.mktemp("standalone"))


@pytest.fixture(scope="module")
def root(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with all of libc, and no Python."""
    env = Tiny(tmp_path_factory.mktemp("pusher"), registry=registry).env
    return push_root(registry, tmp_path_factory.mktemp("root"), env, libc_files())


@pytest.fixture
def own(tiny: Tiny, standalone: StandalonePython, root: str) -> Tiny:
    """The tiny project with a Python of its own."""
    tiny.env |= standalone.env()
    stage = tiny.project / "stages/base/stage.toml"
    stage.write_text(re.sub(r'image = ".*"', f'image = "{root}"', stage.read_text()))
    settings = f'python = "{standalone.minor}"\ninterpreter = "standalone"'
    tiny.replace("pyproject.toml", 'python = "3.13"\nbytecode = false', settings)
    tiny.lock()
    tiny.git("add", ".")
    tiny.git("commit", "--quiet", "--message=A Python of its own")
    return tiny


def test_python_of_its_own_runs_on_a_root_without_one(
    own: Tiny, standalone: StandalonePython, make_tiny: Callable[[], Tiny]
) -> None:
    locked = (own.project / _LOCK).read_text()
    assert f'version = "{standalone.version}"' in locked
    assert f'sha256 = "{standalone.sha256}"' in locked
    assert "file://" not in locked  # a mirror is a setting
    assert f"# buildkit python {standalone.version}" in (own.project / "requirements/app.txt").read_text()

    first = own.build("app")
    assert "may not start" not in first.text
    assert "will not start" not in first.text
    said = own.run_image("app", "/opt/venv/bin/python", "-c", _SAY)
    major, minor = standalone.minor.split(".")
    cached = f"__init__.cpython-{major}{minor}.pyc True"
    assert said.splitlines() == [
        f"1.0 {major} {minor} /opt/python",
        cached,
        cached,
        f"python python3 python{standalone.minor}",
        "gcc",
    ]
    assert own.build("app").built() == {}  # idempotent

    second = make_tiny()  # another place, another cache: the same bytes
    second.env |= standalone.env()
    for name in (
        "pyproject.toml",
        "stages/base/stage.toml",
        _LOCK,
        "requirements/app.txt",
        "requirements/app.wheels.toml",
    ):
        second.write(name, (own.project / name).read_text())
    second.git("add", ".")
    assert "/opt/python (bytecode)" in second.run("plan", "app").text
    assert second.build("app").digests() == first.digests()
    assert own.left_over() == []
    _check_sbom(own, standalone)
    _check_new_release(own)


def _check_sbom(own: Tiny, standalone: StandalonePython) -> None:
    shown = own.run("sbom", "app", "--output", str(own.folder / "sbom.json")).text
    assert "1 Python of its own" in shown
    text = (own.folder / "sbom.json").read_text()
    assert f"pkg:generic/python@{standalone.version}?checksum=sha256:{standalone.sha256}" in text
    assert "Python-2.0" in text


def _check_new_release(own: Tiny) -> None:
    """Another archive of the same release moves what it holds and nothing else."""
    text = (own.project / _LOCK).read_text()
    own.write(_LOCK, re.sub(r'sha256 = "[0-9a-f]{4}', 'sha256 = "0000', text))
    why = own.run("explain", "app").text
    assert "different file" in why
    assert re.search(r"deps/bin-0 +imported again, because /opt/python below it changes", why)
    refused = own.refuse("app", code=1)
    assert "but" in refused
    assert "the file was replaced or altered" in refused
    (own.project / _LOCK).unlink()
    assert f"{_LOCK}: the lock is missing\nhint: run: nox -s lock" in own.refuse("app", code=2)


def test_bad_requests_of_python_are_one_line(tiny: Tiny, standalone: StandalonePython) -> None:
    tiny.env |= standalone.env()
    tiny.replace("pyproject.toml", 'python = "3.13"', f'python = "{standalone.minor}"\ninterpreter = "standalone"')
    assert f"{_LOCK}: the lock is missing" in tiny.run("lock", "--check").text

    tiny.replace("pyproject.toml", f'python = "{standalone.minor}"', f'python = "{standalone.minor}.99"')
    nearest = one_error(tiny.run("lock"), 2)
    assert f"no Python {standalone.minor}.99" in nearest
    assert f"the nearest are {standalone.version}, {standalone.minor}.0" in nearest

    tiny.replace("pyproject.toml", f'"{standalone.minor}.99"', f'"{standalone.minor}"')
    down = one_error(tiny.run("lock", **standalone.env("http://127.0.0.1:9/mirror")), 1)
    assert f"Python {standalone.version} for " in down
    assert "cannot be fetched from 127.0.0.1:9" in down
    assert "UV_PYTHON_INSTALL_MIRROR" in down
    assert not (tiny.project / _LOCK).exists()


def test_archive_that_differs_from_the_list_is_refused(
    tiny: Tiny, standalone: StandalonePython, tmp_path: Path
) -> None:
    other = StandalonePython(folder=tmp_path, version=standalone.version)
    other.write_list("0" * 64)
    tiny.env |= standalone.env() | {"UV_PYTHON_DOWNLOADS_JSON_URL": str(other.list)}
    tiny.replace("pyproject.toml", 'python = "3.13"', f'python = "{standalone.minor}"\ninterpreter = "standalone"')
    refused = one_error(tiny.run("lock"), 1)
    assert "has an archive of other bytes than uv's list says" in refused
