"""The project whose wheels are compiled, locked once for all tests: most of the work makes its root and builder."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.e2e.conftest import short_folder
from tests.e2e.tinyproject import Tiny
from tests.once import make_once

NATIVE = Path(__file__).parent / "native"


def adopt_native(factory: pytest.TempPathFactory, tiny: Tiny, links: Path) -> None:
    """Give a new project the locked one's files, its ``links`` and its cache, which has the root and the builder."""
    made = make_once(factory, "native", _make)
    _copy(made / "project", tiny.project)
    _copy(made / "cache", tiny.cache)
    _copy(made / "links", links)


def _make(folder: Path) -> None:
    folder.mkdir()
    links = folder / "links"
    tiny = Tiny(short_folder(), links=links)
    try:
        links.mkdir()
        fetch = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(links))
        subprocess.run((*fetch, "pip", "setuptools", "--only-binary=:all:", "--python-version=3.13"), check=True)
        write_sdist(links, metadata="1.2")
        tiny.adopt(NATIVE)
        tiny.lock()
        for made in (tiny.project, tiny.cache):
            _copy(made, folder / made.name)
    finally:
        tiny.remove()


def _copy(source: Path, target: Path) -> None:
    subprocess.run(("cp", "--archive", "--reflink=auto", str(source), str(target)), check=True)


def write_sdist(folder: Path, metadata: str = "2.2") -> None:
    """An sdist with a module, an extension and a setup.py; before metadata 2.2, its backend is asked for more."""
    name = "source_only-1.0"
    native = (NATIVE / "libs/fast/src/fast.c").read_text()
    files = {
        "setup.py": (
            "from setuptools import Extension, setup\n"
            "setup(name='source-only', version='1.0', py_modules=['source_only'],\n"
            "      ext_modules=[Extension('source_native', ['native.c'])])\n"
        ),
        "source_only.py": 'WORD = "sdist"\n',
        "native.c": native.replace("PyInit_fast", "PyInit_source_native").replace('"fast"', '"source_native"'),
        "PKG-INFO": f"Metadata-Version: {metadata}\nName: source-only\nVersion: 1.0\n\n",
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
    }
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
