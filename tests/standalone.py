"""A relocatable Python in the layout of python-build-standalone, made of this host's own, with a list and a mirror."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

BUILD = "20261110"
_PYTHON = Path("/usr/bin/python3")  # Debian's, whatever runs the tests
_LEFT_OUT = ("__pycache__", "config-*", "dist-packages", "test", "idlelib", "lib2to3", "ensurepip", "*distutils*")
_OF_LIBC = re.compile(r"lib(?:c|m|dl|rt|util|pthread)\.so|ld-linux")
_PLATFORM = f"{platform.machine()}-unknown-linux-gnu"


@dataclass(frozen=True, kw_only=True)
class StandalonePython:
    """An archive below ``folder/BUILD``, as mirrors have it, and ``folder/list.json``, as uv reads it."""

    folder: Path
    version: str

    @property
    def minor(self) -> str:
        return self.version.rpartition(".")[0]

    @property
    def file(self) -> str:
        return f"cpython-{self.version}+{BUILD}-{_PLATFORM}-install_only_stripped.tar.gz"

    @property
    def path(self) -> Path:
        return self.folder / BUILD / self.file

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def list(self) -> Path:
        return self.folder / "list.json"

    def write_list(self, sha256: str = "") -> None:
        major, minor, patch = self.version.split(".")
        entries = {
            f"cpython-{major}.{minor}.{number}-linux-{platform.machine()}-gnu": {
                "name": "cpython", "arch": {"family": platform.machine(), "variant": None}, "os": "linux",
                "libc": "gnu", "major": int(major), "minor": int(minor), "patch": number, "prerelease": "",
                "url": "https://github.com/astral-sh/python-build-standalone/releases/download/"
                f"{BUILD}/{self.file.replace(self.version, f'{major}.{minor}.{number}').replace('+', '%2B')}",
                "sha256": sha256 or self.sha256, "variant": None, "build": BUILD,
            }
            for number in (int(patch), 0)
        }  # fmt: skip
        self.list.write_text(json.dumps(entries))

    def env(self, mirror: str = "") -> dict[str, str]:
        """Return the variables with which uv has this list and this mirror."""
        return {
            "UV_PYTHON_DOWNLOADS_JSON_URL": str(self.list),
            "UV_PYTHON_INSTALL_MIRROR": mirror or self.folder.as_uri(),
            "UV_HTTP_RETRIES": "0",
        }


def make_standalone_python(folder: Path) -> StandalonePython:
    """Make an archive whose Python starts from any folder, on any root with glibc. Needs patchelf."""
    found = subprocess.run([_PYTHON, "-c", "import platform; print(platform.python_version())"], **_TEXT).stdout.strip()
    python = StandalonePython(folder=folder, version=found)
    tree = folder / "tree/python"
    modules = tree / f"lib/python{python.minor}"
    shutil.copytree(f"/usr/lib/python{python.minor}", modules, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=True)
    _remove_dead_links(modules)
    (tree / "bin").mkdir()
    program = tree / f"bin/python{python.minor}"
    shutil.copy(_PYTHON.resolve(), program)
    for name in ("python", "python3"):
        (tree / "bin" / name).symlink_to(program.name)
    pip = tree / "bin/pip3"
    pip.write_text("#!/bin/sh\n")
    pip.chmod(0o755)
    _copy_headers(Path("/usr/include"), tree / "include", f"python{python.minor}")
    _bundle(program, tree / "lib", "$ORIGIN/../lib")
    for extension in modules.glob("lib-dynload/*.so"):
        _bundle(extension, tree / "lib", "$ORIGIN/../..")
    for sysconfig in modules.glob("_sysconfigdata_*.py"):
        text = (
            sysconfig.read_text().replace("'/usr", "'/install").replace(f"{platform.machine()}-linux-gnu-gcc", "clang")
        )
        sysconfig.write_text(text)
    python.path.parent.mkdir()
    with tarfile.open(python.path, "w:gz", compresslevel=1) as tar:
        tar.add(tree, "python")
    shutil.rmtree(folder / "tree")
    python.write_list()
    return python


_TEXT = {"check": True, "capture_output": True, "text": True}


def _remove_dead_links(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink() and path.readlink().is_absolute():
            path.unlink()


def _copy_headers(source: Path, target: Path, name: str) -> None:
    """Copy the headers, with the configuration that Debian keeps for each processor apart."""
    shutil.copytree(source / name, target / name)
    shutil.copy(source / f"{platform.machine()}-linux-gnu/{name}/pyconfig.h", target / name / "pyconfig.h")


def _bundle(file: Path, libraries: Path, search: str) -> None:
    """Copy what ``file`` needs besides libc into ``libraries``, and let it look there."""
    listed = subprocess.run(["ldd", file], **_TEXT).stdout
    for found in re.findall(r"=> (/\S+)", listed):
        library = libraries / Path(found).name
        if not library.exists() and not _OF_LIBC.match(library.name):
            shutil.copy(Path(found).resolve(), library)
            subprocess.run(["patchelf", "--set-rpath", "$ORIGIN", library], **_TEXT)
    subprocess.run(["patchelf", "--set-rpath", search, file], **_TEXT)


def libc_files() -> tuple[Path, ...]:
    """Return the parts of this host's libc that its shell and cat do not need: a root's Python does."""
    names = ("libm", "libdl", "libpthread", "librt", "libutil")
    return tuple(path for name in names for path in Path("/lib").glob(f"*-linux-gnu/{name}.so.*"))


def can_make() -> bool:
    """Return whether this host has what the archive is made of."""
    return all(map(shutil.which, ("patchelf", "python3-config"))) and _PYTHON.exists()
