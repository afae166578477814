"""Wheel layers against pip's own installation of the same real wheels, file by file.

pip runs from a pinned release, as a wheel, so that scripts can be compared byte for byte. What may differ is
listed here and nowhere else: INSTALLER's content, and the files REQUESTED and direct_url.json, which say how pip
was called.
"""

import csv
import hashlib
import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from buildkit.declare.target import Target
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.writer import write_layer
from buildkit.layers.wheel.bytecode import Compiler, worker_argv
from buildkit.layers.wheel.layer import layer_of_wheels
from buildkit.tools.process import Command, run, start

pytestmark = [pytest.mark.tools, pytest.mark.network]

PIP = "pip==26.3"
NATIVE = ("numpy", "scipy", "onnxruntime", "pandas", "scikit-learn", "pillow", "lxml", "pydantic-core", "regex")
HEADERS = ("greenlet", "pybind11", "cffi")
DATA_FILES = ("ipykernel", "notebook-shim", "widgetsnbextension", "jupyterlab-pygments", "sympy", "tzdata")
SCRIPTS = ("jmespath", "ninja", "ruff", "awscli", "docutils", "pyserial", "black", "uvicorn", "tqdm")
GUI_SCRIPTS = ("qtconsole", "jupyter-console")
NAMESPACES = (
    "google-api-core", "google-cloud-core", "googleapis-common-protos", "zope.interface", "zope.event",
    "sphinxcontrib-jsmath", "sphinxcontrib-applehelp", "jaraco.functools", "azure-core", "backports.tarfile",
)  # fmt: skip
VARIOUS = ("debugpy", "setuptools", "soundfile", "protobuf", "silero-vad", "six", "fastapi", "jinja2", "psutil")
NAMES = (*NATIVE, *HEADERS, *DATA_FILES, *SCRIPTS, *GUI_SCRIPTS, *NAMESPACES, *VARIOUS)
COMPILED = ("jmespath", "debugpy", "setuptools", "ipykernel", "jinja2", "numpy", "google-api-core", "awscli")
HOW_PIP_WAS_CALLED = {"REQUESTED", "direct_url.json"}

Tree = dict[str, tuple[str, bool]]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    fetch = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:")
    run(Command(argv=(*fetch, "--dest", str(folder), "--", *NAMES, PIP)))
    return sorted(folder.glob("*.whl"))  # with pip's own, whose scripts are named after Python's version


@pytest.fixture(scope="module")
def pip(wheels):
    (wheel,) = wheels[0].parent.glob("pip-*.whl")
    return wheel / "pip"


def test_members_equal_the_files_that_pip_installs(wheels, pip, tmp_path):
    assert len(wheels) >= 30
    target = make_venv(tmp_path / "venv")
    before = tree(target)
    install(pip, target, wheels, "--no-compile")
    expect_equal(target, before, packed(wheels, target, tmp_path / "layer.tar"))


def test_bytecode_has_the_paths_of_pip(wheels, pip, tmp_path):
    chosen = [wheel for wheel in wheels if project(wheel) in COMPILED]
    assert len(chosen) == len(COMPILED)
    target = make_venv(tmp_path / "venv")
    before = tree(target)
    install(pip, target, chosen, "--compile")
    with (
        start(Command(argv=worker_argv(sys.executable))) as worker,
        Compiler(worker.stdin, worker.stdout) as compiler,
    ):
        ours = packed(chosen, target, tmp_path / "layer.tar", compiler)
    assert any(path.startswith("bin/__pycache__/") for path in ours), "no wheel with a script in Python"
    expect_equal(target, before, ours)


def make_venv(prefix: Path) -> Target:
    run(Command(argv=(sys.executable, "-m", "venv", "--without-pip", str(prefix))))
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    glibc = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
    return Target(python=minor, glibc=glibc, arch=os.uname().machine, prefix=str(prefix))


def install(pip: Path, target: Target, wheels: list[Path], *options: str) -> None:
    python = f"{target.prefix}/bin/python"
    argv = (python, str(pip), "install", "--quiet", "--no-deps", "--no-index", "--no-warn-script-location")
    before = os.umask(0o022)
    try:
        run(Command(argv=(*argv, *options, "--", *map(str, wheels))))
    finally:
        os.umask(before)


def packed(wheels: list[Path], target: Target, path: Path, compiler: Compiler | None = None) -> Tree:
    with path.open("wb") as out:
        write_layer(layer_of_wheels(wheels, target, compiler), out, Compression.NONE)
    found: Tree = {}
    with tarfile.open(path) as layer:
        for member in layer:
            if not member.isdir():
                name = f"/{member.name}".removeprefix(f"{target.prefix}/")
                found[name] = judged(name, layer.extractfile(member).read(), bool(member.mode & 0o111))
    return found


def tree(target: Target) -> Tree:
    prefix = Path(target.prefix)
    return {
        name: judged(name, path.read_bytes(), bool(path.stat().st_mode & 0o111))
        for path in prefix.rglob("*")
        if path.is_file() and not path.is_symlink()
        for name in [str(path.relative_to(prefix))]
        if not name.startswith("lib64/")
    }


def says_how_pip_was_called(record_path: str) -> bool:
    folder, _, last = record_path.rpartition("/")
    return last in HOW_PIP_WAS_CALLED and folder.endswith(".dist-info") and "/" not in folder


def judged(name: str, data: bytes, is_executable: bool) -> tuple[str, bool]:
    """The comparable form of a file: RECORD as a set of rows, bytecode by existence, others by their bytes."""
    folder, _, last = name.rpartition("/")
    if folder.endswith(".dist-info") and last == "INSTALLER":
        return "who installed it", is_executable
    if folder.endswith(".dist-info") and last == "RECORD":
        return repr(sorted(rows(data.decode()))), is_executable
    if last.endswith(".pyc") and folder.endswith("__pycache__"):
        return "bytecode", is_executable
    return hashlib.sha256(data).hexdigest(), is_executable


def rows(text: str) -> set[tuple[str, ...]]:
    return {
        (row[0], "", "") if row[0].endswith(".dist-info/INSTALLER") else tuple(row)
        for row in csv.reader(io.StringIO(text))
        if not says_how_pip_was_called(row[0])
    }


def expect_equal(target: Target, before: Tree, ours: Tree) -> None:
    theirs = {
        name: what
        for name, what in tree(target).items()
        if name not in before and not says_how_pip_was_called(name.rpartition("/site-packages/")[2])
    }
    differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    lines = [f"{name}: {difference(ours.get(name), theirs.get(name))}" for name in differing[:20]]
    assert not differing, "\n".join([f"{len(differing)} of {len(theirs)} files differ", *lines])


def difference(ours: tuple[str, bool] | None, theirs: tuple[str, bool] | None) -> str:
    if ours is None or theirs is None:
        return "only pip has it" if ours is None else "only we have it"
    if ours[1] != theirs[1]:
        return f"executable for {'us' if ours[1] else 'pip'} alone"
    only_ours = set(ours[0].split("), (")) - set(theirs[0].split("), ("))
    only_theirs = set(theirs[0].split("), (")) - set(ours[0].split("), ("))
    return f"ours has {sorted(only_ours)[:5]}, pip's {sorted(only_theirs)[:5]}"


def project(wheel: Path) -> str:
    return wheel.name.split("-")[0].replace("_", "-").lower()
