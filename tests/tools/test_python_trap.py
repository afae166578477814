"""No code of a package runs on the host while it is locked, by the real uv and pip-tools."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from buildkit.errors import BuildError, ToolError
from buildkit.tools.python_trap import HostBuildError, PythonTrap
from buildkit.tools.resolver import ProjectMetadata, ResolveRequest, resolve
from tests.installersettings import clear_installer_settings
from tests.layers.wheelmaker import make_wheel

HERE = "{}.{}".format(*sys.version_info[:2])
_SYSTEM = '[build-system]\nrequires = []\nbuild-backend = "{backend}"\nbackend-path = ["."]\n'
_BACKEND = """import pathlib
pathlib.Path("{marker}").write_text("ran")

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    place = pathlib.Path(folder, "evil-1.0.dist-info")
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\\nName: evil\\nVersion: 1.0\\nRequires-Dist: alpha\\n")
    (place / "WHEEL").write_text("Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    return place.name

build_wheel = None
"""


class Checkout:
    """A checkout with packages whose build backends write a marker, and a folder that replaces an index."""

    def __init__(self, folder: Path) -> None:
        self.root, self.marker = folder / "root", folder / "marker"
        self.links, self.cache = folder / "links", folder / "cache"
        self.root.mkdir()
        make_wheel(self.links, name="alpha", METADATA="Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n\n")

    @property
    def env(self) -> Mapping[str, str]:
        links = {"UV_FIND_LINKS": str(self.links), "PIP_FIND_LINKS": str(self.links)}
        caches = {"UV_CACHE_DIR": str(self.cache / "uv"), "PIP_CACHE_DIR": str(self.cache / "pip")}
        return {**links, **caches, "UV_NO_INDEX": "1", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        (self.root / path).chmod(mode)

    def write_package(self, project: str, backend: str = "backend") -> None:
        self.write("libs/evil/pyproject.toml", f"{_SYSTEM.format(backend=backend)}{project}")
        self.write(f"libs/evil/{backend.replace('.', '/')}.py", _BACKEND.format(marker=self.marker))

    def write_sdist(self, metadata: str) -> None:
        files = {
            "PKG-INFO": f"Metadata-Version: {metadata}\nName: evil\nVersion: 1.0\n",
            "pyproject.toml": _SYSTEM.format(backend="backend"),
            "backend.py": _BACKEND.format(marker=self.marker),
        }
        with tarfile.open(self.links / "evil-1.0.tar.gz", "w:gz") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(f"evil-1.0/{name}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))

    def lock(self, requirement: str, locker: str = "uv", **more: object) -> str:
        self.write("a.in", f"{requirement}\n")
        request = ResolveRequest(root=self.root, inputs=("a.in",), python=HERE, locker=locker, env=self.env, **more)
        return resolve(request)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    clear_installer_settings(monkeypatch)
    return Checkout(tmp_path)


_STATIC = '[project]\nname = "evil"\nversion = "1.0"\ndependencies = ["alpha"]\n'
_DYNAMIC = '[project]\nname = "evil"\nversion = "1.0"\ndynamic = ["dependencies"]\n'


@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
@pytest.mark.parametrize("project", [_DYNAMIC, '[project]\nname = "evil"\ndynamic = ["version"]\n', ""])
def test_build_backend_of_a_local_package_does_not_run(checkout: Checkout, locker: str, project: str) -> None:
    checkout.write_package(project)
    with pytest.raises(HostBuildError) as caught:
        checkout.lock("./libs/evil", locker)
    assert caught.value.tree == str(checkout.root / "libs/evil")
    assert not checkout.marker.exists()
    checkout.lock("./libs/evil", locker, host_builds=True)
    assert checkout.marker.exists()  # so it is the trap that kept it from running


@pytest.mark.parametrize("locker", ["uv", "pip-tools"])
def test_build_backend_of_an_sdist_does_not_run(checkout: Checkout, locker: str) -> None:
    checkout.write_sdist("1.2")
    with pytest.raises(HostBuildError):
        checkout.lock("evil", locker)
    assert not checkout.marker.exists()


def test_setup_py_of_a_local_package_does_not_run(checkout: Checkout) -> None:
    checkout.write("libs/evil/setup.py", _BACKEND.format(marker=checkout.marker))
    with pytest.raises(BuildError, match="locking a"):  # uv may first miss setuptools
        checkout.lock("./libs/evil")
    assert not checkout.marker.exists()


def test_static_metadata_needs_no_backend_of_uv(checkout: Checkout) -> None:
    checkout.write_package(_STATIC)
    assert "alpha==1.0" in checkout.lock("./libs/evil")
    checkout.write_sdist("2.2")
    assert "evil==1.0 \\\n    --hash=sha256:" in checkout.lock("evil")
    assert not checkout.marker.exists()


def test_backend_named_like_the_question_of_uv_does_not_run(checkout: Checkout) -> None:
    checkout.write_package(_DYNAMIC, backend="python.get_interpreter_info")
    with pytest.raises(HostBuildError):
        checkout.lock("./libs/evil")
    assert not checkout.marker.exists()


def test_interpreter_that_settings_of_the_repository_name_does_not_run(checkout: Checkout) -> None:
    checkout.write("python", f'#!/bin/sh\necho ran >{checkout.marker}\nexec {sys.executable} "$@"\n', 0o755)
    checkout.write("uv.toml", f'[pip]\npython = "{checkout.root}/python"\n')
    assert "alpha==1.0" in checkout.lock("alpha")
    assert not checkout.marker.exists()
    checkout.lock("alpha", host_builds=True)
    assert checkout.marker.exists()


def test_interpreter_in_the_repository_does_not_run_pip_tools(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv looks for a folder ``.venv`` where it starts; pip-tools run on a Python that it finds."""
    checkout.write(".venv/pyvenv.cfg", f"home = /usr/bin\nversion = {HERE}\n")
    checkout.write(".venv/bin/python", f'#!/bin/sh\necho ran >{checkout.marker}\nexec {sys.executable} "$@"\n', 0o755)
    monkeypatch.setattr("buildkit.tools.resolver.sys.version_info", (3, 98))  # another Python is needed
    monkeypatch.setenv("UV_OFFLINE", "1")
    uv = Path(sys.executable).with_name("uv")
    monkeypatch.setattr("buildkit.tools.resolver.uv_program", lambda: (str(uv),))
    with suppress(ToolError):  # unless uv's cache has pip-tools
        checkout.lock("alpha", "pip-tools")
    assert not checkout.marker.exists()


@pytest.mark.parametrize("settings", ["uv.toml", "pyproject.toml", "UV_NO_CONFIG", "UV_CONFIG_FILE", ""])
def test_described_metadata_replaces_a_backend_and_settings_are_kept(
    checkout: Checkout, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings exclude the newest alpha, if uv reads them."""
    make_wheel(
        checkout.links, name="alpha", version="2.0", METADATA="Metadata-Version: 2.1\nName: alpha\nVersion: 2.0\n\n"
    )
    checkout.write_package(_DYNAMIC)
    if settings:
        file = settings if "." in settings else "uv.toml"
        table = "[tool.uv]\n" if file == "pyproject.toml" else ""
        checkout.write(file, f'{table}constraint-dependencies = ["alpha<2"]\n')
    if settings.startswith("UV"):
        monkeypatch.setenv(settings, "1" if settings == "UV_NO_CONFIG" else str(checkout.root / "uv.toml"))
    known = ProjectMetadata(
        name="evil", version="1.0", requires_dist=('alpha; extra == "more"',), provides_extra=("more",)
    )
    text = checkout.lock("./libs/evil[more]", described=(known,))
    assert not checkout.marker.exists()
    assert f"alpha=={'2.0' if settings in ('', 'UV_NO_CONFIG') else '1.0'}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import sys; print(1)"),
        ("-I", "-B", "-c", "import sys\nfrom python.get_interpreter_info import main; main()"),
        ("-I", "-B", "-c", 'import sys; sys.path = ["."] + sys.path; import python.get_interpreter_info as backend'),
        ("setup.py", "egg_info"),
        (),
    ],
)
def test_trap_refuses_and_notes_everything_but_the_question(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    trap = PythonTrap(tmp_path).set_up()
    assert trap.find_caught() is None
    folder = tmp_path / "a folder\nof two lines"
    folder.mkdir()
    done = subprocess.run((trap.program, *arguments), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no code of a package runs on this host" in done.stderr
    assert trap.find_caught() == folder
